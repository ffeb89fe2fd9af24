"""The functions that come with a gateway: deployed by name, with nothing uploaded, and what each does."""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Iterator

import httpx
import pytest

from tests.kit.addresses import PRIVATE
from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town
from tests.kit.web import Quiet, serving

pytestmark = pytest.mark.slow

HTML = "text/html; charset=utf-8"
PAGE = b"<html><head><title>x</title></head><script>evil()</script><p>Trees&amp;grass grow</p></html>"
# What is at a path of the server below, and the words that a reader of it sees.
PAGES = {
    "/page": (HTML, PAGE, "x Trees&grass grow"),
    "/headless": (
        HTML,
        b"<!doctype html><head><meta charset=utf-8><title>x</title><p>Trees gr&ouml;w",
        "x Trees gr\u00f6w",
    ),
    "/old": (HTML, b"<![ if !IE ]><p>Trees<![endif]><!--[if IE]>no<![endif]--> grow", "Trees grow"),
    "/odd": ("text/html; charset=base64", b"<p>Trees grow", "Trees grow"),
    "/slow": ("text/html; charset=punycode", b"<p>Trees grow", "Trees grow"),
    "/text": ("text/plain", b"Trees <grow>", "Trees <grow>"),
}
# Nobody waits for its words.
MODEL = "mock?ttft=0&tps=0"
FAILING = {
    "/empty": (HTML, b"<head></head><script>write()</script>"),
    "/picture": ("image/png", b"\x89PNG"),
    "/gone": (HTML, b""),
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("store")) as town:
        yield town


@pytest.fixture(scope="module")
def shell(town: Town) -> Shell:
    return Shell(town.work, {"OPENFAAS_URL": town.url})


@pytest.fixture(scope="module")
def closed(town: Town, shell: Shell) -> str:
    """Where a `summarise` answers that may read public pages only."""
    assert shell.run("store", "deploy", "summarise", *asking(town), "--name", "closed").returncode == 0
    return f"{town.url}/function/closed"


@contextlib.contextmanager
def page_server() -> Iterator[str]:
    """The pages on loopback; ``/away`` leads to the first, ``/round`` to itself."""

    class Handler(Quiet):
        def do_GET(self) -> None:  # http.server's name
            moved = {"/away": "/page", "/round": "/round"}.get(self.path)
            if moved:
                self.send_response(302)
                self.send_header("Location", moved)
                self.end_headers()
                return
            kind, data = PAGES[self.path][:2] if self.path in PAGES else FAILING[self.path]
            self.send_response(404 if self.path == "/gone" else 200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as url:
        yield url


def deployed(shell: Shell, name: str, *options: str) -> None:
    done = shell.run("store", "deploy", name, *options)
    assert done.returncode == 0, done.stderr
    assert f"{name}: ready in" in done.stderr


def asking(town: Town) -> tuple[str, ...]:
    env = {"OPENAI_BASE_URL": town.mock.base_url, "OPENAI_API_KEY": "mock", "OPENAI_MODEL": MODEL}
    return tuple(f"--env={name}={value}" for name, value in env.items())


def events(url: str, **more: object) -> list[str]:
    """The data of each event of a stream, line by line joined."""
    found = []
    with httpx.stream("POST", url, timeout=30, **more) as reply:  # type: ignore[arg-type]
        assert reply.status_code == 200, reply.read()
        for event in "".join(reply.iter_text()).split("\n\n"):
            lines = event.split("\n")
            if not any(line.startswith("event:") for line in lines):
                data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
                found += ["\n".join(data)] if data else []
    return found


def test_every_function_of_the_store_has_an_image_that_needs_no_build(town: Town) -> None:
    listed = httpx.get(f"{town.url}/store/functions.json")

    assert 200 == listed.status_code
    functions = listed.json()["functions"]
    assert {"chat", "summarise", "embeddings", "picture", "heartbeat", "env"} <= {
        f["name"] for f in functions
    }
    with town.http() as http_client:
        for function in functions:
            for image in function["images"].values():
                found = http_client.get("/system/bundles", params={"image": image})
                assert 200 == found.status_code, found.text


def test_chat_streams_the_models_answer(town: Town, shell: Shell) -> None:
    deployed(shell, "chat", *asking(town))

    words = events(f"{town.url}/function/chat", content="What are some trees?")
    asked = {"messages": [{"role": "user", "content": "What are some trees?"}]}
    again = events(f"{town.url}/function/chat", json=asked)

    assert len(words) > 3
    assert "".join(words) == "".join(again)


@pytest.fixture(scope="module")
def open_(town: Town, shell: Shell) -> str:
    """Where a `summarise` answers that may read private pages too."""
    deployed(shell, "summarise", *asking(town), "--env", "SUMMARISE_ALLOW_PRIVATE=true")
    return f"{town.url}/function/summarise"


@pytest.mark.parametrize("path", ["/away", *PAGES])
def test_summarise_reads_the_page_and_asks_the_model_for_it(town: Town, open_: str, path: str) -> None:
    with page_server() as url:
        words = events(open_, content=f"{url}{path}")

    prompt = {"model": MODEL, "prompt": PAGES.get(path, PAGES["/page"])[2]}
    expected = httpx.post(
        f"{town.mock.base_url}/completions", json=prompt, headers={"Authorization": "Bearer mock"}
    ).json()["choices"][0]["text"]
    assert expected == "".join(words)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/empty", "no text"),
        ("/picture", "expected a page of text"),
        ("/gone", "404"),
        ("/round", "more than 5"),
    ],
)
def test_a_page_without_words_is_502_and_no_model_is_asked(
    town: Town, open_: str, path: str, why: str
) -> None:
    before = len(town.connections())

    with page_server() as url:
        reply = httpx.post(open_, content=f"{url}{path}", timeout=30)

    assert 502 == reply.status_code
    assert why in reply.json()["error"]
    assert before == len(town.connections())


def test_a_page_that_cannot_be_reached_is_502(open_: str) -> None:
    with page_server() as url:
        gone = url

    reply = httpx.post(open_, content=gone, timeout=30)

    assert 502 == reply.status_code
    assert "could not be read" in reply.json()["error"]


SPELLED = [f"http://[{address}]/" if ":" in address else f"http://{address}/" for address in PRIVATE]


@pytest.mark.parametrize(
    "address",
    ["http://localhost/", "http://0x7f000001/", "http://2130706433/", "http://127.1/",
     "http://169.254.169.254/latest/meta-data/", *SPELLED],
)  # fmt: skip
def test_summarise_reads_nothing_private(town: Town, closed: str, address: str) -> None:
    before = len(town.connections())

    reply = httpx.post(closed, content=address, timeout=30)

    assert 400 == reply.status_code
    assert "error" in reply.json()
    assert before == len(town.connections())


@pytest.mark.parametrize(
    "body",
    [b"", b"file:///etc/passwd", b"http://user@127.0.0.1/", b"http://@127.0.0.1/", b"http://[::1/", b"http://a:b/",
     b"http:///x", b"Trees", b"\xff\xfe", b"http://%s.example/" % (b"a" * 70)],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_what_was_expected(open_: str, body: bytes) -> None:
    reply = httpx.post(open_, content=body, timeout=30)

    assert 400 == reply.status_code
    assert "expected an address such as https://" in reply.json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b'{"messages": []}', b'{"messages": "hello"}', b'{"messages": [1]}', b'{"messages": [{}]}'],
)
def test_chat_says_what_it_expected(town: Town, shell: Shell, body: bytes) -> None:
    deployed(shell, "chat", *asking(town))

    reply = httpx.post(f"{town.url}/function/chat", content=body, timeout=30)

    assert 400 == reply.status_code
    assert "application/json" == reply.headers["content-type"]
    assert "expected" in reply.json()["error"]


@pytest.mark.parametrize("name", ["chat", "embeddings"])
def test_a_model_that_fails_is_502(town: Town, shell: Shell, name: str) -> None:
    address = ("--env", "OPENAI_BASE_URL=http://127.0.0.1:1/v1")
    done = shell.run("store", "deploy", name, *address, "--name", f"{name}-failing")
    assert 0 == done.returncode, done.stderr

    reply = httpx.post(f"{town.url}/function/{name}-failing", content="Trees", timeout=30)

    assert 502 == reply.status_code
    assert reply.json()["error"].startswith("the model: ")


def test_embeddings_are_alike_for_texts_that_share_words(town: Town, shell: Shell) -> None:
    deployed(shell, "embeddings", *asking(town))
    texts = ["green trees grow", "green trees grow fast", "invoice 42 overdue"]

    found = httpx.post(f"{town.url}/function/embeddings", json=texts, timeout=30).json()

    def alike(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert 3 == len(found)
    assert alike(found[0], found[1]) > alike(found[0], found[2])


def test_embeddings_of_nothing_are_refused(town: Town, shell: Shell) -> None:
    deployed(shell, "embeddings", *asking(town))

    reply = httpx.post(f"{town.url}/function/embeddings", content="[1]", timeout=30)

    assert 400 == reply.status_code
    assert "expected a text" in reply.json()["error"]


def test_a_picture_comes_as_base64_pieces_that_are_a_png(town: Town, shell: Shell) -> None:
    deployed(shell, "picture")

    pieces = events(f"{town.url}/function/picture", json={"width": 40, "height": 30})
    data = b"".join(map(base64.b64decode, pieces))

    assert len(pieces) > 3
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    assert 30 * 41 == len(zlib.decompress(pixels(data)))


@pytest.mark.parametrize(
    "body", ["[]", "7", "wide", '{"width": 0}', '{"width": "8"}', '{"height": 1025}', "[" * 99999]
)
def test_a_picture_of_no_size_is_refused(town: Town, shell: Shell, body: str) -> None:
    deployed(shell, "picture")

    reply = httpx.post(f"{town.url}/function/picture", content=body, timeout=30)

    assert 400 == reply.status_code
    assert 'expected {"width": 1 to 1024, "height": 1 to 1024}' == reply.json()["error"]


def pixels(png: bytes) -> bytes:
    """The packed rows of a PNG, each chunk's checksum looked at."""
    at, packed = 8, b""
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        data, sum_ = png[at + 8 : at + 8 + length], png[at + 8 + length : at + 12 + length]
        assert int.from_bytes(sum_) == zlib.crc32(kind + data)
        packed += data if kind == b"IDAT" else b""
        at += 12 + length
    return packed


def test_the_heartbeat_has_a_schedule_and_writes_a_line(town: Town, shell: Shell) -> None:
    deployed(shell, "heartbeat")

    reply = httpx.get(f"{town.url}/function/heartbeat", timeout=30)
    with town.http() as http_client:
        status = http_client.get("/system/function/heartbeat").json()

    assert reply.text.startswith("beat 1 at ")
    assert "cron-function" == status["annotations"]["topic"]
    assert status["tailrace"]["nextCall"]
    assert "beat 1 at" in shell.run("logs", "heartbeat").stdout


def test_env_shows_only_values_that_cannot_be_a_secret(town: Town, shell: Shell) -> None:
    """A name says little: all values but those of a known list are hidden."""
    names = (
        "LEVEL",
        "MY_API_KEY",
        "MY_PW",
        "JWT",
        "COOKIE",
        "CONN",
        "WEBHOOK",
        "PATH_OF_MINE",
        "OPENFAAS_KEY",
    )
    given = [word for name in names for word in ("--env", f"{name}=s3cr3t")]
    deployed(shell, "env", *given, "--env", "TZ=Europe/Berlin", "--env", "exec_timeout=20s")

    text = httpx.get(f"{town.url}/function/env", timeout=30).text

    assert "s3cr3t" not in text
    for name in names:
        assert f"{name}=*** (6 characters)\n" in text
    for shown in ("TZ=Europe/Berlin\n", "exec_timeout=20s\n", "PATH=/", "HOME=/"):
        assert shown in text


def test_env_shows_every_value_where_its_owner_says_so(town: Town, shell: Shell) -> None:
    deployed(shell, "env", "--env", "LEVEL=debug", "--env", "SHOW_VALUES=true")

    assert "LEVEL=debug\n" in httpx.get(f"{town.url}/function/env", timeout=30).text


def test_one_name_of_the_store_may_be_deployed_under_another(town: Town, shell: Shell) -> None:
    done = shell.run(
        "store", "deploy", "env", "--name", "mine", "-n", "staging", "--label", "team=a", "--json"
    )

    assert 0 == done.returncode, done.stderr
    assert [True] == [row["ready"] for row in json.loads(done.stdout)]
    assert "LEVEL" not in httpx.get(f"{town.url}/function/mine.staging", timeout=30).text
    described = json.loads(shell.run("describe", "mine.staging", "--json").stdout)
    assert {"team": "a"} == described["labels"]
    assert "tailrace-store/env:1" == described["image"]


def test_nobody_can_give_the_stores_names_another_meaning(town: Town) -> None:
    with town.http() as http_client:
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        params = {"image": "tailrace-store/chat:1"}
        known = http_client.get("/system/bundles", params=params).json()["digest"]
        again = http_client.put(f"/system/bundles/{known}", params=params, content=b"")
        other = http_client.put(f"/system/bundles/{empty}", params=params, content=b"")

        assert known == http_client.get("/system/bundles", params=params).json()["digest"]
    assert again.status_code == other.status_code == 400
