"""python3-stream: what is yielded, in all four manners, is what arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.replica import Replica, loaded_replica

pytestmark = pytest.mark.slow

SOURCE = """
from tailrace_runtime import Event

DEF events(context):
    yield "a\\nb"
    yield {"x": 1}
    yield Event("named", event="delta", id="1")

DEF raw(context):
    yield b"\\x00"
    yield bytearray(b"\\x01")

DEF typed(context):
    context.content_type = "image/png"
    context.status = 206
    context.headers["X-Own"] = "1"
    yield b"png"

DEF mixed(context):
    yield "text"
    yield b"bytes"

DEF late(context):
    yield "text"
    context.status = 500

DEF late_header(context):
    yield "text"
    context.headers["X"] = "1"

DEF wrong(context):
    yield 3

DEF headers(context):
    context.headers["Content-Type"] = "text/html"
    context.headers["X-Own"] = "1"
    yield "x"

DEF nothing(context):
    return
    yield

DEF exits(context):
    raise SystemExit(1)
    yield

DEF who(context):
    yield {"function": context.function, "call": context.call_id}
"""
SYNC = (
    SOURCE.replace("DEF", "def")
    + """
def handle(event, context):
    name = event.path.strip("/")
    values = {"str": "whole", "dict": {"a": 1}, "bytes": b"whole", "none": None}
    return values[name] if name in values else globals()[name](context)
"""
)
ASYNC = (
    SOURCE.replace("DEF", "async def")
    + """
async def handle(event, context):
    name = event.path.strip("/")
    values = {"str": "whole", "dict": {"a": 1}, "bytes": b"whole", "none": None}
    return values[name] if name in values else globals()[name](context)
"""
)
END = b"event: end\ndata: {}\n\n"


@pytest.fixture(scope="module", params=["greenlets", "threads", "async"])
def stream(request: pytest.FixtureRequest) -> Iterator[Replica]:
    worker = "threads" if request.param == "threads" else "greenlets"
    with loaded_replica(ASYNC if request.param == "async" else SYNC, worker=worker) as replica:
        yield replica


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_items_are_events_whatever_accept_says(stream: Replica, method: str, accept: str) -> None:
    """Each item is one chunk of one event; the end is told; the dialect is named."""
    with stream.talk() as talk:
        talk.send(method, "/events", headers={"Accept": accept})
        head = dict(talk.read_head().headers)
        pieces = list(iter(talk.read_data, None))

    assert (b"text/event-stream", b"native") == (head[b"content-type"], head[b"x-tailrace-dialect"])
    expected = [
        b"data: a\ndata: b\n\n",
        b'data: {"x":1}\n\n',
        b"event: delta\nid: 1\ndata: named\n\n",
        END,
    ]
    assert b"".join(expected) == b"".join(pieces)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/str", b"data: whole\n\n" + END),
        ("/dict", b'data: {"a":1}\n\n' + END),
        ("/none", END),
        ("/nothing", END),
    ],
)
def test_a_value_is_a_stream_of_one(stream: Replica, target: str, body: bytes) -> None:
    """Returning instead of yielding gives one event, or none."""
    answer = stream.ask("GET", target)

    assert (200, body, "native") == (answer.status, answer.body, answer.headers["x-tailrace-dialect"])


@pytest.mark.parametrize(
    ("target", "status", "body", "content_type"),
    [
        ("/raw", 200, b"\x00\x01", "application/octet-stream"),
        ("/bytes", 200, b"whole", "application/octet-stream"),
        ("/typed", 206, b"png", "image/png"),
    ],
)
def test_bytes_are_passed_raw(
    stream: Replica, target: str, status: int, body: bytes, content_type: str
) -> None:
    """No framing and no end event; the context sets the head until the first item."""
    answer = stream.ask("GET", target)

    assert (status, body, content_type) == (answer.status, answer.body, answer.headers["content-type"])
    assert answer.is_whole
    assert "x-tailrace-dialect" not in answer.headers


@pytest.mark.parametrize("target", ["/mixed", "/late", "/late_header"])
def test_a_mistake_after_the_first_item_cuts_the_stream(stream: Replica, target: str) -> None:
    """Mixing bytes and events, and changing a head that is out: never a clean end."""
    answer = stream.ask("GET", target)

    assert (200, b"data: text\n\n", False) == (answer.status, answer.body, answer.is_whole)


@pytest.mark.parametrize("target", ["/wrong", "/exits"])
def test_a_mistake_before_the_first_item_is_a_500(stream: Replica, target: str) -> None:
    """A wrong first item, and a handler that wants to end the process."""
    answer = stream.ask("GET", target)

    assert (500, "function") == (answer.status, answer.headers["x-tailrace-fault"])
    assert 200 == stream.ask("GET", "/str").status


def test_the_content_type_of_events_is_not_the_handlers(stream: Replica) -> None:
    """Other headers stand."""
    answer = stream.ask("GET", "/headers")

    assert ("text/event-stream", "1") == (answer.headers["content-type"], answer.headers["x-own"])


def test_the_context_knows_the_call(stream: Replica) -> None:
    """Its id and its function."""
    answer = stream.ask("GET", "/who", headers={"X-Call-Id": "c-9"})

    assert answer.body.startswith(b'data: {"function":"fn.openfaas-fn","call":"c-9"}\n\n')


def test_head_does_not_run_the_handler(stream: Replica) -> None:
    """The head alone, and the connection goes on."""
    with stream.talk() as talk:
        talk.send("HEAD", "/wrong")
        assert (200, b"") == (lambda a: (a.status, a.body))(talk.read_answer())
        talk.send("GET", "/str")
        assert b"data: whole\n\n" + END == talk.read_answer().body


def test_an_async_generator_behind_a_plain_def_is_explained() -> None:
    """The error in the logs says what to write instead."""
    source = "async def go():\n    yield 'x'\ndef handle(event, context):\n    return go()\n"
    with loaded_replica(source) as replica:
        assert 500 == replica.ask().status
        replica.wait_log("declare it `async def handle`")
