"""python3-http: event and context in, dict or anything Flask takes out."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.kit.replica import Replica, loaded_replica

pytestmark = pytest.mark.slow

SOURCE = """
from flask import Response

RESULTS = {
    "/dict": {"statusCode": 202, "headers": {"X-Own": "1"}, "body": {"a": 1}},
    "/text": {"body": "plain"},
    "/number": {"body": 3},
    "/list": {"body": [1]},
    "/bytes": {"body": b"\\x00\\xff", "headers": {"Content-type": "application/octet-stream"}},
    "/nobody": {"statusCode": 204},
    "/none": None,
    "/flask": ("made", 201),
}

DEF handle(event, context):
    if event.path == "/stream":
        return Response(words(), mimetype="text/plain")
    if event.path == "/body-stream":
        return {"body": words(), "headers": {"Content-Type": "text/x-own"}}
    if event.path == "/tuple-stream":
        return words(), 201, {"Content-Type": "text/x-own"}
    if event.path in RESULTS:
        return RESULTS[event.path]
    return {"body": {
        "body": event.body.decode(), "method": event.method, "path": event.path,
        "query": event.query.getlist("q"), "header": event.headers.get("x-own-thing"),
        "hostname": context.hostname, "call": context.call_id, "function": context.function,
    }}

DEF words():
    yield "a"
    yield b"b"
"""


@pytest.fixture(scope="module", params=["greenlets", "threads", "async"])
def http(request: pytest.FixtureRequest) -> Iterator[Replica]:
    source = SOURCE.replace("DEF", "async def" if request.param == "async" else "def")
    worker = "threads" if request.param == "threads" else "greenlets"
    with loaded_replica(source, kind="http", worker=worker) as replica:
        yield replica


def test_the_event_holds_the_request(http: Replica) -> None:
    """Body as bytes, repeated query keys, headers of any case, and who is running where."""
    answer = http.ask("PATCH", "/p/q%20r?q=1&q=&q=%C3%A9", b"in", {"X-Own-Thing": "v", "X-Call-Id": "c-1"})

    assert {
        "body": "in",
        "method": "PATCH",
        "path": "/p/q r",
        "query": ["1", "", "é"],
        "header": "v",
        "hostname": socket.gethostname(),
        "call": "c-1",
        "function": "fn.openfaas-fn",
    } == json.loads(answer.text)


@pytest.mark.parametrize(
    ("target", "status", "body", "content_type"),
    [
        ("/dict", 202, b'{"a": 1}', "application/json"),
        ("/text", 200, b"plain", "text/html; charset=utf-8"),
        ("/number", 200, b"3", "text/html; charset=utf-8"),
        ("/list", 200, b"[1]", "text/html; charset=utf-8"),
        ("/bytes", 200, b"\x00\xff", "application/octet-stream"),
        ("/nobody", 204, b"", "text/html; charset=utf-8"),
        ("/none", 200, b"", "text/html; charset=utf-8"),
        ("/flask", 201, b"made", "text/html; charset=utf-8"),
        ("/stream", 200, b"ab", "text/plain; charset=utf-8"),
        ("/body-stream", 200, b"ab", "text/x-own"),
        ("/tuple-stream", 201, b"ab", "text/x-own"),
    ],
)
def test_a_result_becomes_a_reply(
    http: Replica, target: str, status: int, body: bytes, content_type: str
) -> None:
    """The dict of the template, and everything else by Flask."""
    answer = http.ask("GET", target)

    assert (status, body, content_type) == (answer.status, answer.body, answer.headers["content-type"])
    assert answer.is_whole
