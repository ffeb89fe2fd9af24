"""The functions that come with a gateway: deployed by name, with nothing uploaded, and what each does."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
import zlib
from collections.abc import Iterator

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town

pytestmark = pytest.mark.slow

PAGE = b"<html><head><title>x</title></head><script>evil()</script><p>Trees&amp;grass grow</p></html>"


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
    """A web page on loopback; ``/away`` leads to it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "/page")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def deployed(shell: Shell, name: str, *options: str) -> None:
    done = shell.run("store", "deploy", name, *options)
    assert done.returncode == 0, done.stderr
    assert f"{name}: ready in" in done.stderr


def asking(town: Town) -> tuple[str, ...]:
    return ("--env", f"OPENAI_BASE_URL={town.mock.base_url}", "--env", "OPENAI_API_KEY=mock")


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


def test_summarise_reads_the_page_and_asks_the_model_for_it(town: Town, shell: Shell) -> None:
    deployed(shell, "summarise", *asking(town), "--env", "SUMMARISE_ALLOW_PRIVATE=true")

    with page_server() as url:
        words = events(f"{town.url}/function/summarise", content=f"{url}/away")

    prompt = {"prompt": "Trees&grass grow"}
    expected = httpx.post(
        f"{town.mock.base_url}/completions", json=prompt, headers={"Authorization": "Bearer mock"}
    ).json()["choices"][0]["text"]
    assert expected == "".join(words)


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://10.0.0.1/", "file:///etc/passwd",
     "http://169.254.169.254/latest/meta-data/", "http://localhost/", "", "http://user@127.0.0.1/"],
)  # fmt: skip
def test_summarise_reads_nothing_private(town: Town, closed: str, address: str) -> None:
    before = len(town.connections())

    reply = httpx.post(closed, content=address, timeout=30)

    assert 500 == reply.status_code
    assert before == len(town.connections())


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


def test_env_shows_no_secret(town: Town, shell: Shell) -> None:
    deployed(
        shell, "env", "--env", "LEVEL=debug", "--env", "MY_API_KEY=s3cr3t", "--env", "DB=pg://joe:pw1@host/db"
    )

    text = httpx.get(f"{town.url}/function/env", timeout=30).text

    assert "LEVEL=debug\n" in text
    assert "MY_API_KEY=***\n" in text
    assert "DB=pg://***@host/db\n" in text
    assert "s3cr3t" not in text
    assert "pw1" not in text


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
