"""The remote builder, with requests as faas-cli makes them: no Docker, no registry, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tailrace.build.builder import PLACES
from tests.kit import remote
from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town
from tests.kit.index import PACKAGE, PASSWORD, USER, package_index
from tests.kit.patience import wait_until
from tests.kit.remote import SECRET, build, context_tar, signed

pytestmark = pytest.mark.slow

OWN_INDEX = """
from flask import Flask, Response, request
from function import handler
from waitress import serve

app = Flask(__name__)

@app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
@app.route("/<path:path>", methods=["GET", "POST"])
def main(path):
    return Response(handler.handle(request.get_data(as_text=True)), mimetype="text/event-stream")

serve(app, host="0.0.0.0", port=5000)
"""
OWN = {
    "Dockerfile": "FROM python:3.12\nRUN apt-get install -y gcc\nWORKDIR /home/app\nCOPY . .\n"
    'ENV fprocess="python index.py" mode=http upstream_url=http://127.0.0.1:5000 GREETING=hello\n',
    "template.yml": "language: acme-python\nfprocess: python index.py\n",
    "index.py": OWN_INDEX,
    "requirements.txt": "flask\nwaitress\n",
    "function/__init__.py": "",
    "function/handler.py": "import os, time\ndef handle(req):\n"
    "    for word in (os.environ['GREETING'], req):\n        yield f'data: {word}\\n\\n'\n"
    "        time.sleep(0.3)\n",
    "function/requirements.txt": "",
}
OURS = {
    "template.yml": "language: python3-http\nfprocess: python index.py\n",
    "function/handler.py": "def handle(event, context):\n    return 'ours ' + event.body.decode()\n",
    "function/requirements.txt": "",
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway with a payload secret and small limits."""
    folder = tmp_path_factory.mktemp("town")
    (folder / "secret").write_text(f"{SECRET}\n")
    flags = {
        "payload_secret_file": folder / "secret", "build_limit": 1 << 20, "trusted_proxies": "127.0.0.1"
    }  # fmt: skip
    with running_town(folder, flags=flags) as town:
        yield town


def deploy(town: Town, name: str, image: str) -> dict[str, object]:
    """As faas-cli: PUT, on 404 POST; its status once it is ready or has failed."""
    body = {"service": name, "image": image, "labels": {}, "annotations": {}}
    with town.http() as http:
        reply = http.put("/system/functions", json=body)
        if reply.status_code == 404:
            reply = http.post("/system/functions", json=body)
        assert reply.status_code == 202, reply.text
        params = {"wait": "55", "revision": reply.headers["x-tailrace-revision"]}
        found: dict[str, object] = http.get(f"/system/function/{name}", params=params).json()
        return found


def kept(town: Town) -> set[str]:
    """Everything that builds may leave, anywhere in the state directory."""
    state = town.work.parent / "state"
    found = set()
    for folder in ("builds", "bundles"):
        for at, folders, files in os.walk(state / folder):
            found |= {str(Path(at, name).relative_to(state)) for name in [*folders, *files]}
    return found | {str(path.relative_to(state)) for path in (state / "environments").iterdir()}


def test_a_template_of_anybody_is_built_deployed_and_streams(town: Town) -> None:
    """Its own server runs as it stands; the environment is built while the client watches."""
    built = build(town.url, context_tar(OWN, image="ghcr.io/lab/own:0.1"))

    assert ("success", "ghcr.io/lab/own:0.1", "") == (built.status, built.image, built.error)
    assert "installing requirements of 'own': flask, waitress" in built.text
    assert "Installed " in built.text
    assert "system packages are not installed: gcc" in built.text
    assert deploy(town, "own", "ghcr.io/lab/own:0.1").get("availableReplicas") == 1
    assert "installing" not in town.log_text()
    began, times = time.monotonic(), []
    with httpx.stream("POST", f"{town.url}/function/own", content=b"Ada", timeout=20) as reply:
        for _ in reply.iter_text():
            times.append(time.monotonic() - began)
    assert 200 == reply.status_code
    assert times[0] < times[-1] - 0.2


def test_a_handler_of_a_template_of_ours_gets_the_runtime(town: Town) -> None:
    """An image without a tag is deployed as `latest`, and by the digest that the log tells."""
    built = build(town.url, context_tar(OURS, image="lab/ours"))

    assert ("success", "lab/ours:latest") == (built.status, built.image)
    digest = built.log[-1].partition("sha256:")[2][:64]
    for image in ("lab/ours", "lab/ours:latest", f"lab/ours@sha256:{digest}"):
        status = deploy(town, "ours", image)
        assert status.get("availableReplicas") == 1, status
    assert "ours 1" == httpx.post(f"{town.url}/function/ours", content=b"1", timeout=20).text


def test_a_build_again_is_the_same_image_at_once(town: Town) -> None:
    """Nothing is installed twice; the digest is the content's."""
    first, second = (build(town.url, context_tar(OURS, image="lab/again")) for _ in range(2))

    assert first.log[-1].split(", built in")[0] == second.log[-1].split(", built in")[0]
    assert "installing" not in second.text


def test_a_client_that_takes_no_stream_gets_one_object(town: Town) -> None:
    """As go-sdk's Build reads it."""
    body = context_tar(OURS, image="lab/whole")
    headers = {key: value for key, value in signed(body).items() if key != "Accept"}

    reply = httpx.post(f"{town.url}/build", content=body, headers=headers, timeout=60)

    assert 200 == reply.status_code
    assert "success" == reply.json()["status"]
    assert "lab/whole:latest is sha256:" in reply.json()["log"][-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"function/requirements.txt": "tailrace-no-such-package-anywhere\n"}, "could not be installed"),
        ({"function/requirements.txt": "-e /etc\n"}, "requirements.txt line 1"),
        ({"function/handler.py": None, "function/other.py": ""}, "has no 'handler.py'"),
        ({"template.yml": "language: go\n", "Dockerfile": "FROM golang\n"}, "nothing says which command"),
        ({"template.yml": "language: [\n"}, "template.yml cannot be understood"),
    ],
)
def test_a_build_that_fails_says_why_and_leaves_nothing(
    town: Town, change: dict[str, str | None], words: str
) -> None:
    """In the stream, which is all that faas-cli shows; the image stays what it was."""
    files = {name: text for name, text in {**OURS, **change}.items() if text is not None}
    before = kept(town)

    built = build(town.url, context_tar(files, image="lab/broken"))

    assert "failed" == built.status
    assert words in built.error
    assert before == kept(town)
    with town.http() as http:
        assert 404 == http.get("/system/bundles", params={"image": "lab/broken"}).status_code


def test_no_line_is_longer_than_a_client_reads(town: Town) -> None:
    """Go's scanner gives up at 64 KiB: many long notes come in more lines, clipped."""
    runs = "".join(f"RUN {'x' * 30_000}{n}\n" for n in range(5))
    files = {**OURS, "template.yml": "language: x\n", "Dockerfile": f"FROM x\n{runs}ENV fprocess=cat\n"}
    files["Dockerfile"] += "RUN apt-get install {}\n".format(
        " ".join(f"package{n}\\\x01" for n in range(800))
    )

    built = build(town.url, context_tar(files, image="lab/long"))

    assert "success" == built.status
    assert built.longest_line < 64 * 1024


LONG = "a" * 90
HOSTILE = {
    "no tar": b"this is no tar",
    "empty": b"",
    "gzip": b"\x1f\x8b" + bytes(510),
    "cut short": context_tar(OURS)[:1500],
    "no end": context_tar(OURS)[:512],
    "no config": remote.make_tar([remote.member("context/x", b"1")]),
    "config is no JSON": remote.make_tar([remote.member("context/x"), remote.member(remote.CONFIG, b"{")]),
    "config of another type": remote.make_tar(
        [remote.member("context/x"), remote.member(remote.CONFIG, b'{"image":1}')]
    ),
    "config without image": remote.make_tar(
        [remote.member("context/x"), remote.member(remote.CONFIG, b'{"image":""}')]
    ),
    "config is a folder": remote.make_tar([remote.member("context/x"), remote.folder(remote.CONFIG)]),
    "config is huge": remote.make_tar(
        [remote.member("context/x"), remote.member(remote.CONFIG, b" " * 70_000)]
    ),
    "config is deep": remote.make_tar(
        [remote.member("context/x"), remote.member(remote.CONFIG, b"[" * 60_000)]
    ),
    "no context": remote.make_tar([remote.member(remote.CONFIG, b'{"image":"a"}')]),
    "context is a file": remote.make_tar(
        [remote.member("context"), remote.member(remote.CONFIG, b'{"image":"a"}')]
    ),
    "secrets are huge": remote.make_tar(
        [remote.member("context/x"), remote.member(remote.SECRETS, bytes(1 << 20) + b"x")]
    ),
    "files over the limit": context_tar({**OURS, "big": "x" * (1 << 20)}),
    "same file twice": remote.make_tar([remote.member("context/x"), remote.member("context/x")]),
    "file under a file": remote.make_tar([remote.member("context/x"), remote.member("context/x/y")]),
} | {
    f"path {name!r}": remote.make_tar([remote.member(name, b"owned")])
    for name in (
        "../escape", "/etc/escape", "context/../escape", "context/../../escape", "escape", "context//x",
        "context/./x", "context/a\\b", "context/a\nb", "com.openfaas.other", "builds/x",
        f"context/{LONG}/../x",
    )
} | {
    f"kind {kind!r}": remote.make_tar([remote.member("context/x", type=kind, linkname="/etc/passwd")])
    for kind in (b"1", b"2", b"3", b"4", b"6", b"S", b"g", b"L", b"K", b"V")
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_tar_is_refused_and_gone(town: Town, data: bytes) -> None:
    """A 4xx that says what was expected; nothing of it stays on the disk, inside or outside."""
    before = kept(town)

    reply = httpx.post(f"{town.url}/build", content=data, headers=signed(data), timeout=30)

    assert reply.status_code in (400, 413), reply.text
    assert len(reply.text.strip()) > 15
    assert before == kept(town)
    assert not list(town.work.parent.rglob("*escape*"))


def test_an_endless_upload_is_cut_off(town: Town) -> None:
    """413 while it comes, and nothing of it stays."""
    before = kept(town)

    reply = httpx.post(f"{town.url}/build", content=bytes(5 << 20), headers=signed(b""), timeout=30)

    assert 413 == reply.status_code
    wait_until(lambda: before == kept(town), "the upload is gone")


BODY = context_tar(OURS)
RIGHT = signed(BODY)["X-Build-Signature"]
SIGNATURES = [
    None, "", "sha256=", "sha256", RIGHT[:-1], RIGHT + "0", RIGHT[:-1] + ("0" if RIGHT[-1] != "0" else "1"),
    RIGHT.replace("sha256", "sha1"), RIGHT.removeprefix("sha256="), f"{RIGHT}x", "sha256=" + "0" * 64,
    "sha256=" + "g" * 64, "sha256=" + "0" * 63 + "_", RIGHT.replace("=", " "), f"{RIGHT},{RIGHT}",
    signed(BODY, "another secret of 32 letters....")["X-Build-Signature"],
    signed(BODY, "")["X-Build-Signature"],
    signed(BODY + b"x")["X-Build-Signature"], signed(b"")["X-Build-Signature"], "Bearer x", "Basic YTpi",
    "sha256=" + "0" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda text: str(text)[:30])
def test_without_the_right_signature_nothing_is_unpacked(town: Town, signature: str | None) -> None:
    """401; the body is not looked into."""
    headers = {key: value for key, value in signed(BODY).items() if key != "X-Build-Signature"}
    if signature is not None:
        headers["X-Build-Signature"] = signature
    before = kept(town)

    reply = httpx.post(f"{town.url}/build", content=BODY, headers=headers, timeout=30)

    assert 401 == reply.status_code
    assert "X-Build-Signature" in reply.text
    assert before == kept(town)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json", "multipart/form-data; boundary=x"]
)
def test_another_content_type_is_refused(town: Town, content_type: str) -> None:
    """415 with the one that is expected."""
    headers = {**signed(BODY), "Content-Type": content_type}

    reply = httpx.post(f"{town.url}/build", content=BODY, headers=headers)

    assert (415, True) == (reply.status_code, "application/octet-stream" in reply.text)


def test_a_foreign_page_is_refused_where_there_is_no_auth(town: Town) -> None:
    """The guard of the loopback gateway comes first, whatever is signed."""
    for header in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        for method, path in (("POST", "/build"), ("GET", "/publickey")):
            reply = httpx.request(
                method, f"{town.url}{path}", content=BODY, headers={**signed(BODY), **header}
            )

            assert 403 == reply.status_code


def test_without_a_payload_secret_there_is_no_builder(tmp_path: Path) -> None:
    """404 for both, and the text says how to have one."""
    with running_town(tmp_path) as town:
        replies = [
            httpx.post(f"{town.url}/build", content=BODY, headers=signed(BODY)),
            httpx.get(f"{town.url}/publickey"),
        ]

    assert [404, 404] == [reply.status_code for reply in replies]
    assert "--payload-secret-file" in replies[0].text


def test_with_auth_the_signature_is_all_that_is_asked_for(tmp_path: Path) -> None:
    """faas-cli sends the builder no password; what means an image stays the admin's to ask."""
    (tmp_path / "secret").write_text(SECRET)
    flags = {"payload_secret_file": tmp_path / "secret", "auth": True}
    with running_town(tmp_path, flags=flags) as town:
        unsigned = httpx.post(f"{town.url}/build", content=BODY)
        key = httpx.get(f"{town.url}/publickey").json()
        asked = httpx.get(f"{town.url}/system/bundles", params={"image": "lab/x"})
        built = build(town.url, context_tar({**OURS, "template.yml": "language: x\nfprocess: cat\n"}))

    assert (401, 401, "success") == (unsigned.status_code, asked.status_code, built.status)
    assert {"key_id", "algorithm", "public_key"} == set(key)
    key_file = tmp_path / "state" / "builder-key"
    assert 0o600 == key_file.stat().st_mode & 0o777


@pytest.mark.parametrize("content", [None, "", "short\n"])
def test_a_payload_secret_that_protects_nothing_is_refused_at_the_start(
    tmp_path: Path, content: str | None
) -> None:
    """Missing, empty or short: the gateway does not start, and says how to make one."""
    if content is not None:
        (tmp_path / "secret").write_text(content)

    done = Shell(tmp_path).run("serve", "--port", "0", "--payload-secret-file", "secret")

    assert 1 == done.returncode
    assert "payload secret" in done.stderr


def key_of(town: Town) -> str:
    return str(httpx.get(f"{town.url}/publickey").json()["public_key"])


def holds(folder: Path, words: bytes) -> list[str]:
    """The files below that have these words. Replicas of other tests come and go meanwhile: so do files."""
    found = []
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names):
            with contextlib.suppress(OSError):
                if path.is_file() and words in path.read_bytes():
                    found.append(str(path))
    return found


PRIVATE = {
    **OURS,
    "function/requirements.txt": f"{PACKAGE}\n",
    "function/handler.py": "from tailrace_private_words import WORDS\n"
    "def handle(event, context):\n    return {'body': WORDS}\n",
}


@pytest.mark.parametrize("name", ["pip_extra_index_url", "pip.conf"])
def test_a_private_index_of_a_build_secret_is_used_and_never_kept(town: Town, name: str) -> None:
    """Its packages are installed; neither the stream, nor the logs, nor the disk tell its address."""
    with package_index() as index:
        address = index.url.replace("/simple", f"/simple-{name[:3]}")
        value = address if name != "pip.conf" else f"[global]\nextra-index-url =\n    {address}\n"
        sealed = remote.seal(key_of(town), {name: value.encode(), "npm_token": b"s3cr3t"})

        built = build(town.url, context_tar(PRIVATE, image=f"lab/private-{name[:3]}", sealed=sealed))

        assert "success" == built.status, built.error
        assert any(PACKAGE in path for path in index.asked)
    assert deploy(town, "private", f"lab/private-{name[:3]}").get("availableReplicas") == 1
    assert "from the private index" == httpx.get(f"{town.url}/function/private", timeout=20).text
    assert "build secrets that are not used: npm_token" in built.text
    for words in (PASSWORD, USER, str(index.port), "s3cr3t"):
        assert words not in built.text + town.log_text()
    assert [] == holds(town.work.parent / "state", PASSWORD.encode())


def test_a_failure_of_a_private_index_does_not_tell_its_address(town: Town) -> None:
    """The installer quotes addresses when it fails; here they are stars."""
    with package_index() as index:
        sealed = remote.seal(key_of(town), {"pip_index_url": f"{index.url}/t0ken-in-the-path".encode()})
        files = {**OURS, "function/requirements.txt": "tailrace-not-there-either\n"}

        built = build(town.url, context_tar(files, image="lab/fails", sealed=sealed))

    assert "failed" == built.status
    assert "could not be installed" in built.error
    for words in (PASSWORD, USER, "t0ken-in-the-path", str(index.port)):
        assert words not in built.error + built.text


@pytest.mark.parametrize(
    ("sealed", "words"),
    [
        (b"no: [yaml", "cannot be read"),
        (b"version: v1\n", "cannot be read"),
        (b"version: v9\nalgorithm: nacl/box\npublic_key: eA==\nsecrets: {}\n", "expected 'v1', 'nacl/box'"),
        (b"version: v1\nalgorithm: nacl/box\npublic_key: eA==\nsecrets: {}\n", "has not 32 bytes"),
        (b"version: v1\nalgorithm: nacl/box\npublic_key: '!'\nsecrets: {}\n", "is not base64"),
        (remote.seal("A" * 42 + "w=", {"a": b"b"}), "not sealed for this gateway's key"),
    ],
)
def test_secrets_that_cannot_be_opened_fail_the_build(town: Town, sealed: bytes, words: str) -> None:
    """A build without what its author sealed for it would be another build."""
    built = build(town.url, context_tar(OURS, image="lab/sealed", sealed=sealed))

    assert "failed" == built.status
    assert words in built.error


def test_secrets_that_take_long_to_read_hold_up_nobody(town: Town) -> None:
    """YAML of some 100 KB takes seconds; the gateway answers others meanwhile."""
    body = context_tar(OURS, image="lab/slow", sealed=b"secrets: [" + b"a," * 200_000 + b"]")
    waits_s = []
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=town.url, timeout=30) as http:
        building = pool.submit(build, town.url, body)
        while not building.done():
            began = time.monotonic()
            http.get("/healthz").raise_for_status()
            waits_s.append(time.monotonic() - began)
        built = building.result()

    assert ("failed", "the sealed build secrets cannot be read") == (built.status, built.error)
    assert max(waits_s) < 0.7, max(waits_s)


def test_a_secret_that_holds_no_address_fails_without_being_told(town: Town) -> None:
    """The name is told, the value is not."""
    sealed = remote.seal(key_of(town), {"pip_index_url": b"file:///etc/s3cr3t"})

    built = build(town.url, context_tar(OURS, image="lab/noaddress", sealed=sealed))

    assert "build secret 'pip_index_url' holds" in built.error
    assert "s3cr3t" not in built.error


def hanging(town: Town, url: str, image: str) -> bytes:
    """A build whose installer waits for a package index that is silent."""
    files = {**OURS, "function/requirements.txt": f"tailrace-waits-for-{image}\n"}
    sealed = remote.seal(key_of(town), {"pip_index_url": url.encode()})
    return context_tar(files, image=f"lab/{image}", sealed=sealed)


def send_and_listen(town: Town, body: bytes) -> socket.socket:
    """A client that has sent its build and reads later."""
    sock = socket.create_connection(("127.0.0.1", town.port), timeout=30)
    lines = [f"{key}: {value}" for key, value in signed(body).items()]
    head = "\r\n".join(
        ["POST /build HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *lines, "", ""]
    )
    sock.sendall(head.encode() + body)
    return sock


def installers(town: Town) -> list[int]:
    """Processes that build an environment of this town."""
    state = str(town.work.parent / "state" / "environments" / ".tmp-").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if state in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_client_that_leaves_cancels_its_build_and_leaves_nothing(town: Town) -> None:
    """Its installer is killed within seconds, its upload is gone, and the image was never made."""
    before = kept(town)
    with package_index(is_silent=True) as index:
        client = send_and_listen(town, hanging(town, index.url, "left"))
        wait_until(lambda: bool(index.asked), "the installer asks the index", 30)
        assert installers(town)
        client.close()

        wait_until(lambda: not installers(town), "the installer is gone")
        wait_until(lambda: before == kept(town), "nothing of the build is left")


def test_clients_that_leave_at_once_keep_no_place(town: Town) -> None:
    """More of them than there are places, before and after their first line; the next build finds one."""
    before = kept(town)
    with package_index(is_silent=True) as index:
        for n in range(PLACES + 5):
            client = send_and_listen(town, hanging(town, index.url, f"brief{n}"))
            if n % 2:
                first_words(client)
            client.close()
            wait_until(lambda: before == kept(town), "nothing of the build is left")

        assert "success" == build(town.url, context_tar(OURS, image="lab/next")).status


def test_builds_wait_for_each_other_and_too_many_are_refused(town: Town) -> None:
    """Two run, more wait and are told so, and one more than there are places for gets 429."""
    before = kept(town)
    clients = []
    with package_index(is_silent=True) as index:
        try:
            for n in range(PLACES):
                clients.append(send_and_listen(town, hanging(town, index.url, f"many{n}")))
            waiting = [n for n, client in enumerate(clients) if "waiting: 2 builds" in first_words(client)]
            reply = httpx.post(f"{town.url}/build", content=BODY, headers=signed(BODY), timeout=30)
        finally:
            for client in clients:
                client.close()

        assert PLACES - 2 == len(waiting)
        assert 429 == reply.status_code
        assert reply.headers["retry-after"]
        wait_until(lambda: before == kept(town), "nothing of the builds is left", 30)
    assert "success" == build(town.url, context_tar(OURS, image="lab/after")).status


def test_uploads_of_one_address_that_do_not_come_keep_nobody_from_building(town: Town) -> None:
    """They need no secret, so three of them are waited for, 20 s long; the others have to go within 10 s."""
    received = town.work.parent / "state" / "builds"
    head = (
        f"POST /build HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\nX-Build-Signature: {RIGHT}\r\n"
    )
    began = time.monotonic()
    slow = []
    for n in range(PLACES):
        slow.append(socket.create_connection(("127.0.0.1", town.port), timeout=40))
        slow[-1].sendall(f"{head}X-Forwarded-For: 2001:db8::{n}\r\n\r\nx".encode())
    try:
        wait_until(lambda: len(list(received.iterdir())) == 3, "three have come")
        headers = {**signed(BODY), "X-Forwarded-For": "2001:db8:1::1"}
        reply = httpx.post(f"{town.url}/build", content=BODY, headers=headers, timeout=60)
        took_s = time.monotonic() - began
        lines = [client.recv(4096).partition(b"\r\n")[0] for client in slow]
    finally:
        for client in slow:
            client.close()

    assert '"success"' in reply.text
    assert took_s < 10
    assert [b"HTTP/1.1 408 Request Timeout"] * 3 + [b"HTTP/1.1 429 Too Many Requests"] * 7 == sorted(lines)
    assert 20 <= time.monotonic() - began < 25
    wait_until(lambda: not list(received.iterdir()), "nothing of the uploads is left")


def first_words(client: socket.socket) -> str:
    """What a client is told first of all."""
    text = b""
    while b'"log":["' not in text:
        text += client.recv(4096)
    return text.decode()


def test_a_gateway_killed_in_the_middle_of_a_build_leaves_nothing_half_made(tmp_path: Path) -> None:
    """After kill -9 and a restart the state is as before the build, and the same build works."""
    (tmp_path / "secret").write_text(SECRET)
    shell = Shell(tmp_path)
    state = tmp_path / "state"
    arguments = ("serve", "--port", "0", "--state-dir", "state", "--payload-secret-file", "secret")
    with package_index(is_silent=True) as index, shell.start(*arguments) as serve:
        url = serve.wait_for(r"listening on (http://\S+)")[1]
        key = httpx.get(f"{url}/publickey").json()["public_key"]
        files = {**OURS, "function/requirements.txt": "tailrace-waits\n"}
        sealed = remote.seal(key, {"pip_index_url": index.url.encode()})
        body = context_tar(files, image="lab/killed", sealed=sealed)
        with httpx.stream("POST", f"{url}/build", content=body, headers=signed(body), timeout=60) as reply:
            lines = reply.iter_lines()  # kept: a generator that is dropped closes the connection
            assert "in_progress" in next(lines)
            wait_until(lambda: bool(index.asked), "the installer asks the index", 30)
            assert list((state / "builds").iterdir())
            serve.process.kill()
            serve.process.wait()
    with shell.start(*arguments) as serve:
        url = serve.wait_for(r"listening on (http://\S+)")[1]
        left = [
            path for folder in ("builds", "bundles", "environments") for path in (state / folder).iterdir()
        ]
        gone = httpx.get(f"{url}/system/bundles", params={"image": "lab/killed"}).status_code
        same_key = httpx.get(f"{url}/publickey").json()["public_key"]
        built = build(url, context_tar({**OURS, "template.yml": "language: x\nfprocess: cat\n"}))

    assert ([], 404, key, "success") == (left, gone, same_key, built.status)


def test_the_config_is_json_of_the_contract() -> None:
    """What the kit sends is what the contract says: image, buildArgs, platforms."""
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(context_tar(OURS, build_args={"A": "1"}))) as tar:
        found = tar.extractfile(remote.CONFIG)
        assert found is not None
        config = json.loads(found.read())

    assert {"image", "buildArgs", "platforms"} == set(config)
