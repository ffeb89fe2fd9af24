"""Handlers of every kind and manner, over the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tailrace_runtime.framing import FAULT_BODY
from tests.kit.replica import Replica, loaded_replica

pytestmark = pytest.mark.slow

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

FLASK = """
from flask import Response, abort, jsonify, request, stream_with_context

def handle(req):
    path = request.path
    if path == "/tuple":
        return "made", 201, {"X-Own": "1"}
    if path == "/dict":
        return {"got": req}
    if path == "/abort":
        abort(418)
    if path == "/none":
        return None
    if path == "/empty":
        return "", 204
    if path == "/fail":
        raise ValueError("secret reason")
    if path == "/stream":
        def words():
            for word in ("a", "b"):
                print(word, flush=True, end="")
                yield f"data: {word} {request.args['q']}\\n\\n"
        return Response(stream_with_context(words()), mimetype="text/event-stream")
    if path == "/fail-late":
        def words():
            yield "begun"
            raise ValueError("secret reason")
        return Response(words())
    if path == "/fail-early":
        def words():
            raise ValueError("secret reason")
            yield
        return Response(words())
    if path == "/short":
        return Response(iter([b"ab"]), headers={"Content-Length": "3"})
    return f"{request.method} {path} {type(req).__name__} {req}"
"""

FLASK_ASYNC = """
import asyncio
from flask import Response, abort, request

async def handle(req):
    await asyncio.sleep(0)
    path = request.path
    if path == "/tuple":
        return "made", 201, {"X-Own": "1"}
    if path == "/dict":
        return {"got": req}
    if path == "/abort":
        abort(418)
    if path == "/none":
        return None
    if path == "/empty":
        return "", 204
    if path == "/fail":
        raise ValueError("secret reason")
    if path == "/stream":
        async def words():
            for word in ("a", "b"):
                print(word, flush=True, end="")
                yield f"data: {word} {request.args['q']}\\n\\n"
        return Response(words(), mimetype="text/event-stream")
    if path == "/fail-late":
        async def words():
            yield "begun"
            raise ValueError("secret reason")
        return Response(words())
    if path == "/fail-early":
        async def words():
            raise ValueError("secret reason")
            yield
        return Response(words())
    if path == "/short":
        async def words():
            yield b"ab"
        return Response(words(), headers={"Content-Length": "3"})
    return f"{request.method} {path} {type(req).__name__} {req}"
"""


@pytest.fixture(scope="module", params=["greenlets", "threads", "async"])
def flask(request: pytest.FixtureRequest) -> Iterator[Replica]:
    worker = "threads" if request.param == "threads" else "greenlets"
    source = FLASK_ASYNC if request.param == "async" else FLASK
    with loaded_replica(source, kind="flask", worker=worker) as replica:
        yield replica


@pytest.mark.parametrize("method", METHODS)
def test_flask_gets_every_method_and_path(flask: Replica, method: str) -> None:
    """The body comes as str; paths come as they are, slashes and escapes too."""
    answer = flask.ask(method, "/a//b%20c/?x=1", "hé".encode())

    assert (200, f"{method} /a//b c/ str hé") == (answer.status, answer.text)


def test_flask_answers_head_without_a_body(flask: Replica) -> None:
    """The next request on the connection is answered as if there never was a HEAD."""
    with flask.talk() as talk:
        for target, expected in (("/", b""), ("/stream?q=1", b"")):
            talk.send("HEAD", target)
            assert expected == talk.read_answer().body
        talk.send("GET", "/x")
        assert "GET /x str " == talk.read_answer().text


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/tuple", 201, "made"),
        ("/dict", 200, '{"got":"x"}\n'),
        ("/empty", 204, ""),
        ("/fail", 500, FAULT_BODY.decode()),
        ("/fail-early", 500, FAULT_BODY.decode()),
        ("/none", 500, FAULT_BODY.decode()),
    ],
)
def test_flask_returns_what_flask_takes(flask: Replica, target: str, status: int, body: str) -> None:
    """Tuples, dicts and failures before the first byte; a failure says whose it is and not why."""
    answer = flask.ask("POST", target, b"x")

    assert (status, body, True) == (answer.status, answer.text, answer.is_whole)
    assert ("function" if status == 500 else None) == answer.headers.get("x-tailrace-fault")


def test_flask_abort_is_an_answer(flask: Replica) -> None:
    """An HTTP error that the handler chose is no failure."""
    answer = flask.ask("GET", "/abort")

    assert (418, None) == (answer.status, answer.headers.get("x-tailrace-fault"))


def test_flask_streams_chunk_by_chunk(flask: Replica) -> None:
    """One yield is one chunk; the request is still there while streaming; prints carry the call's id."""
    with flask.talk() as talk:
        talk.send("POST", "/stream?q=1", headers={"X-Call-Id": "call-7"})
        head = talk.read_head()
        pieces = [talk.read_data(), talk.read_data(), talk.read_data()]

    assert b"text/event-stream; charset=utf-8" == dict(head.headers)[b"content-type"]
    assert [b"data: a 1\n\n", b"data: b 1\n\n", None] == pieces
    assert "call-7" == flask.wait_report(lambda report: report.get("text") == "b")["call"]


CLOSING = """
from flask import Response, request

DEF handle(req):
    path = request.path
    DEF words():
        yield "a"
        if path == "/fail":
            raise ValueError("late")
    def closed():
        print("closed", path)
        if path == "/whole":
            raise ValueError("closing")
    response = Response("whole" if path == "/whole" else words())
    response.call_on_close(closed)
    return response
"""


@pytest.mark.parametrize("mode", ["greenlets", "threads", "async"])
def test_what_is_to_be_called_on_close_is_called(mode: str) -> None:
    """Once the answer is out, whole or not, and as part of its call; its failure changes nothing of that."""
    source = CLOSING.replace("DEF", "async def" if mode == "async" else "def")
    worker = "threads" if mode == "threads" else "greenlets"
    asked = (("GET", "/whole"), ("GET", "/stream"), ("HEAD", "/head"), ("GET", "/fail"))
    with loaded_replica(source, kind="flask", worker=worker) as replica, replica.talk() as talk:
        for method, target in asked:
            talk.send(method, target, headers={"X-Call-Id": f"call-{target[1:]}"})
            assert (200, target != "/fail") == ((answer := talk.read_answer()).status, answer.is_whole)
        calls = [
            replica.wait_report(lambda report, text=f"closed {target}\n": report.get("text") == text)["call"]  # type: ignore[misc]
            for _, target in asked
        ]

        assert [f"call-{target[1:]}" for _, target in asked] == calls
        assert replica.wait_report(lambda report: report.get("text") == "ValueError: closing\n")


@pytest.mark.parametrize("target", ["/fail-late", "/short"])
def test_a_reply_that_broke_is_cut(flask: Replica, target: str) -> None:
    """After the first byte a failure is a connection closed without the last chunk."""
    answer = flask.ask("GET", target)

    assert (200, False) == (answer.status, answer.is_whole)


def test_a_failures_traceback_is_in_the_logs(flask: Replica) -> None:
    """With the call's id, from the handler's own line on."""
    flask.ask("GET", "/fail", headers={"X-Call-Id": "call-8"})

    flask.wait_report(lambda r: r.get("call") == "call-8" and r["text"] == "ValueError: secret reason\n")
    lines = [str(report["text"]) for report in flask.reports if report.get("call") == "call-8"]
    assert "Traceback (most recent call last):\n" == lines[0]
    assert "function/handler.py" in lines[1]


@pytest.mark.parametrize(("raw", "expected"), [("true", "bytes"), ("1", "bytes"), ("false", "str")])
def test_raw_body_gives_bytes(raw: str, expected: str) -> None:
    """OpenFaaS's RAW_BODY."""
    source = "def handle(req):\n    return type(req).__name__"
    with loaded_replica(source, kind="flask", env={"RAW_BODY": raw}) as replica:
        assert expected == replica.ask(body=b"x").text


@pytest.mark.parametrize("manner", ["def", "async def"])
def test_a_chunked_request_arrives_whole(manner: str) -> None:
    """The edge may pass a body on in chunks; the handler sees it sized."""
    source = (
        f"from flask import request\n{manner} handle(req):\n    return f'{{req}} {{request.content_length}}'"
    )
    with loaded_replica(source, kind="flask") as replica, replica.talk() as talk:
        talk.send_raw("POST", "/", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"})

        assert "abcde 5" == talk.read_answer().text


@pytest.mark.parametrize("manner", ["def", "async def"])
@pytest.mark.parametrize("request_bytes", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"])
def test_what_is_no_request_is_refused(manner: str, request_bytes: bytes) -> None:
    """400 and a closed connection; the replica goes on."""
    with loaded_replica(f"{manner} handle(req):\n    return 'ok'", kind="flask") as replica:
        with replica.talk() as talk:
            talk.socket.sendall(request_bytes)
            assert 400 == talk.read_head().status_code
        assert "ok" == replica.ask().text


def test_two_event_loops_in_greenlets_are_explained() -> None:
    """asyncio.run() in a sync handler works for one call at a time; the log says what works for more."""
    source = """
import asyncio
async def go(req):
    await asyncio.sleep(60 if req == "wait" else 0)
    return "ok"
def handle(req):
    print("begun", flush=True)
    return asyncio.run(go(req))
"""
    with loaded_replica(source, kind="flask") as replica:
        assert "ok" == replica.ask(body=b"go").text
        with replica.talk() as talk:
            talk.send(body=b"wait", headers={"X-Call-Id": "waiting"})
            replica.wait_report(lambda report: report.get("call") == "waiting")

            assert 500 == replica.ask(body=b"go").status
            replica.wait_log("com.tailrace.worker: threads")
