"""The remote builder: what faas-cli sends becomes a function; what others send leaves nothing behind."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.build.test_context import DOCKERFILE, USUAL
from tests.kit.gateway import Town, running_town
from tests.kit.patience import wait_until

pytestmark = pytest.mark.slow
SECRET = b"payload s3cret"
HANDLER = "def handle(req):\n    return 'built: ' + req\n"
FLASK = {
    "context/template.yml": "language: python3-flask\nfprocess: python index.py\n",
    "context/index.py": USUAL,
    "context/Dockerfile": DOCKERFILE,
    "context/requirements.txt": "flask\nwaitress\n",
    "context/function/handler.py": HANDLER,
    "context/function/requirements.txt": "",
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    (folder / "payload").write_bytes(SECRET + b"\n")
    with running_town(folder, flags={"auth": True, "payload_secret_file": folder / "payload"}) as town:
        yield town


def config(image: str = "lab/hello:0.1") -> str:
    return json.dumps(
        {"image": image, "buildArgs": {"A": "b"}, "platforms": ["linux/amd64"], "skipPush": True}
    )


def pack(files: Mapping[str, str], image: str = "lab/hello:0.1") -> bytes:
    """A tar as faas-cli writes it: folders and files of the context, then the config."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, text in {**files, "com.openfaas.docker.config": config(image)}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uname = len(text.encode()), 0o600, "app"
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def post(town: Town, body: bytes, *, secret: bytes = SECRET, signature: str | None = None) -> httpx.Response:
    signed = (
        f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}" if signature is None else signature
    )
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept": "application/x-ndjson",
        "X-Build-Signature": signed,
        "User-Agent": "faas-cli/0.18.12",
    }
    return httpx.post(f"{town.url}/build", content=body, headers=headers, timeout=60)


def lines(reply: httpx.Response) -> list[dict[str, object]]:
    assert 200 == reply.status_code, reply.text
    assert max(map(len, reply.content.split(b"\n"))) < 64 * 1024
    return [json.loads(line) for line in reply.text.splitlines()]


def test_a_build_deploys_as_faas_cli_does_it(town: Town) -> None:
    """No password for the build; then PUT, POST, and the function answers."""
    told = lines(post(town, pack(FLASK)))
    with town.http() as http:
        body = {"service": "hello", "image": "lab/hello:0.1", "envProcess": "python index.py", "labels": {}}
        assert 404 == http.put("/system/functions", json=body).status_code
        reply = http.post("/system/functions", json=body)
        revision = reply.headers["x-tailrace-revision"]
        http.get("/system/function/hello", params={"wait": "55", "revision": revision})
    answer = httpx.post(f"{town.url}/function/hello", content="x")

    assert ["in_progress", "success"] == [told[0]["status"], told[-1]["status"]]
    assert {"lab/hello:0.1"} == {line["image"] for line in told}
    assert "built: x" == answer.text


def test_a_build_that_fails_says_why(town: Town) -> None:
    """Requirements that cannot be installed: the installer's words, and failed at the end."""
    told = lines(
        post(town, pack({**FLASK, "context/function/requirements.txt": "no-such-package-here==1\n"}, "bad:1"))
    )

    assert "failed" == told[-1]["status"]
    assert "no-such-package-here" in str(told[-1]["error"])


def test_a_process_of_its_own_is_built_and_runs(town: Town) -> None:
    files = {
        "context/template.yml": "language: shell\nfprocess: sh run.sh\n",
        "context/run.sh": "echo hi; cat\n",
    }
    assert "success" == lines(post(town, pack(files, "shell")))[-1]["status"]
    with town.http() as http:
        revision = http.post("/system/functions", json={"service": "shell", "image": "shell:latest"}).headers[
            "x-tailrace-revision"
        ]
        http.get("/system/function/shell", params={"wait": "55", "revision": revision})

    assert "hi\nthere" == httpx.post(f"{town.url}/function/shell", content="there").text


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()[: 512 + -(-len(data) // 512) * 512]


GOOD = pack(FLASK)
END = bytes(1024)
HOSTILE = {
    "nothing": b"", "noise": b"\x00\xff" * 700, "a gzip": b"\x1f\x8b\x08" + b"0" * 600,
    "cut short": GOOD[:1000],
    "no context": member("com.openfaas.docker.config", data=b'{"image":"a"}') + END,
    "no config": member("context/template.yml", data=b"fprocess: cat\n") + END,
    "an absolute path": member("/etc/cron.d/x", data=b"x") + GOOD,
    "a path that leads out": member("context/../../x", data=b"x") + GOOD,
    "a path with dots": member("context/a/./b", data=b"x") + GOOD,
    "a backslash": member("context/..\\x", data=b"x") + GOOD,
    "a control character": member("context/a\nb", data=b"x") + GOOD,
    "a foreign name": member("evil", data=b"x") + GOOD,
    "a link": member("context/l", tarfile.SYMTYPE, link="/etc/passwd") + GOOD,
    "a hard link": member("context/l", tarfile.LNKTYPE, link="/etc/passwd") + GOOD,
    "a device": member("context/d", tarfile.CHRTYPE) + GOOD,
    "a pipe": member("context/p", tarfile.FIFOTYPE) + GOOD,
    "a name twice": member("context/index.py", data=b"x") + GOOD,
    "a file that is a folder": member("context/function", data=b"x") + GOOD,
    "a config that is none": member("context/a", data=b"x")
    + member("com.openfaas.docker.config", data=b"{]") + END,
    "a config without an image": member("context/a", data=b"x")
    + member("com.openfaas.docker.config", data=b'{"image":""}') + END,
    "a config too large": member("context/a", data=b"x")
    + member("com.openfaas.docker.config", data=b" " * 70_000) + END,
    "an image of odd letters": pack(FLASK, "a\x00b"),
    "no fprocess": pack({"context/Dockerfile": "FROM scratch\n"}),
    "a requirement of the server": pack({**FLASK, "context/function/requirements.txt": "-r /etc/passwd\n"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_refused_and_leaves_nothing(town: Town, name: str) -> None:
    """With a 4xx that says what was expected, or a build that failed; signed, so that it was looked at."""
    state = town.work.parent / "state"
    before = sorted(state.rglob("*"))

    reply = post(town, HOSTILE[name])

    is_failed = reply.status_code == 200 and lines(reply)[-1]["status"] == "failed"
    assert is_failed or 400 <= reply.status_code < 500
    assert len(reply.text) > 20
    assert before == sorted(state.rglob("*"))


@pytest.mark.parametrize(
    "signature", ["", "sha256=", "sha256=00", "md5=" + "0" * 32, "x", "sha256=" + "0" * 64]
)
def test_a_wrong_signature_is_refused_before_anything_is_read(town: Town, signature: str) -> None:
    """401, also for a tar that could not be read."""
    replies = [post(town, body, signature=signature) for body in (GOOD, b"no tar")]

    assert [401, 401] == [reply.status_code for reply in replies]
    assert "--payload-secret" in replies[0].text


def test_a_client_that_leaves_ends_its_build_and_leaves_nothing(town: Town) -> None:
    """In the middle of an installation, many times: places and folders are given back."""
    body = pack({**FLASK, "context/function/requirements.txt": "https://192.0.2.1/slow.whl\n"}, "slow:1")
    headers = {"X-Build-Signature": f"sha256={hmac.new(SECRET, body, hashlib.sha256).hexdigest()}"}
    bundles = town.work.parent / "state" / "bundles"
    for _ in range(6):
        with httpx.stream("POST", f"{town.url}/build", content=body, headers=headers, timeout=60) as reply:
            assert 200 == reply.status_code

    wait_until(lambda: not list(bundles.glob(".tmp-*")), "the folders of builds are removed")
    assert "success" == lines(post(town, pack(FLASK)))[-1]["status"]


def test_another_secret_s_signature_is_wrong(town: Town) -> None:
    assert 401 == post(town, GOOD, secret=b"other").status_code


def test_the_key_stays_the_same(town: Town) -> None:
    """32 bytes in base64; no password."""
    first, second = httpx.get(f"{town.url}/publickey"), httpx.get(f"{town.url}/publickey")

    assert first.json() == second.json()
    assert "nacl/box" == first.json()["algorithm"]
    assert 44 == len(first.json()["public_key"])


def test_without_a_payload_secret_there_is_no_builder(tmp_path: Path) -> None:
    with running_town(tmp_path) as town:
        replies = [post(town, GOOD), httpx.get(f"{town.url}/publickey")]

    assert [404, 404] == [reply.status_code for reply in replies]
    assert "--payload-secret-file" in replies[0].text
