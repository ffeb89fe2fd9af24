"""ASGI apps over HTTP: what they are told, what of them arrives, and how they end."""

from __future__ import annotations

import ast
import signal
import time
from collections.abc import Iterator

import h11
import pytest

from tests.kit.replica import LIMIT_S, Replica, boot_replica, loaded_replica, wait_until

pytestmark = pytest.mark.slow

# Each path is one behaviour. What an app learns it prints, so that a test can wait for it.
APP = """
import asyncio
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    try:
        await globals()[scope["path"].split("/")[1]](scope, receive, send)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

async def start(send, kind="text/plain", *headers, status=200):
    own = [(b"content-type", kind.encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})

def part(data):
    return {"type": "http.response.body", "body": data, "more_body": True}

END = {"type": "http.response.body"}

async def tell(scope, receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": repr(scope).encode()})

async def echo(scope, receive, send):
    message = await receive()
    assert (message["type"], message["more_body"]) == ("http.request", False)
    await start(send, "text/plain", (b"X-Own", b"1"), (b"x-own", b"2"), status=201)
    await send({"type": "http.response.body", "body": memoryview(message["body"])})

async def parts(scope, receive, send):
    await start(send)
    for number in range(3):
        await send(part(b"%d" % number))
        await asyncio.sleep(0.2)
    await send(END)

async def events(scope, receive, send):
    await start(send, "text/event-stream; charset=utf-8")
    await asyncio.sleep(0.5)
    await send(part(b"data: x\\n\\n"))
    await send(END)

async def early(scope, receive, send):
    raise ValueError("before the head")

async def blocks(scope, receive, send):
    time.sleep(1.8)
    await further(scope, receive, send)

async def exits(scope, receive, send):
    raise SystemExit(3)

async def late(scope, receive, send):
    await start(send)
    await send(part(b"x"))
    raise ValueError("after the head")

async def silent(scope, receive, send):
    return

async def half(scope, receive, send):
    await start(send)
    await send(part(b"x"))

async def twice(scope, receive, send):
    await start(send)
    await start(send)

async def headless(scope, receive, send):
    await send(END)

async def text(scope, receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": "no bytes"})

async def split(scope, receive, send):
    await start(send, "text/plain\\r\\nX-Evil: 1")

async def further(scope, receive, send):
    await receive()
    await start(send, "text/plain")
    await send({"type": "http.response.body", "body": b"whole"})
    await send({"type": "http.response.body", "body": b"too late"})
    print("after", (await receive())["type"], (await receive())["type"], flush=True)

async def background(scope, receive, send):
    await further(scope, receive, send)
    await asyncio.sleep(1)
    print("background is done", flush=True)

async def background_fails(scope, receive, send):
    await further(scope, receive, send)
    await asyncio.sleep(0.1)
    raise ValueError("in the background")

async def busy(scope, receive, send):
    print("busy", flush=True)
    await asyncio.sleep(60)

async def listens(scope, receive, send):
    await receive()
    print("listens", flush=True)
    assert (await receive())["type"] == "http.disconnect"
    await asyncio.sleep(0.3)
    print("tidied", flush=True)

async def stubborn(scope, receive, send):
    print("stubborn", flush=True)
    while True:
        await receive()

async def talks(scope, receive, send):
    await start(send)
    for count in range(10_000):
        await send(part(bytes(16_384)))
        print("sent", count, flush=True)

async def sends_on(scope, receive, send):
    await start(send)
    while True:
        try:
            await send(part(b"x"))
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass
        except OSError as error:
            print("gone:", error, flush=True)
            raise
"""

NONE = "handler.py is expected to contain a function named 'handle', or an ASGI app named 'app'"


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    with loaded_replica(APP, kind="asgi") as running:
        yield running


@pytest.mark.parametrize("kind", ["asgi", "flask", "http", "stream"])
def test_an_app_is_served_whatever_the_kind(kind: str) -> None:
    """A handler.py that has no handle() but an ASGI app."""
    with loaded_replica(APP, kind=kind) as running:
        answer = running.ask("POST", "/echo", b"body")

    assert (201, b"body") == (answer.status, answer.body)


@pytest.mark.parametrize(
    "source",
    [
        APP.replace("async def app(", "async def handle("),
        APP.replace("async def app(", "async def _app(")
        + "\nimport functools\napp = functools.partial(_app)\n",
        APP.replace("async def app(", "async def _app(")
        + "\nclass App:\n    async def __call__(self, *, scope=None): ...\n"
        + "\nclass Wrapped:\n    async def __call__(self, scope, receive, send):\n"
        + "        await _app(scope, receive, send)\napp = Wrapped()\n",
        APP + "\nhandle = app\n",
    ],
    ids=["handle", "partial", "object", "both"],
)
def test_an_app_may_be_a_function_or_an_object(source: str) -> None:
    """And `handle` may be one itself."""
    with loaded_replica(source, kind="flask") as running:
        assert b"x" == running.ask("POST", "/echo", b"x").body


@pytest.mark.parametrize(
    ("kind", "source", "error", "hint"),
    [
        (
            "stream",
            APP + "\ndef handle(event, context): ...\n",
            "handler.py has both 'handle' and an ASGI app named 'app': it is not clear which is to serve",
            "'_app'",
        ),
        (
            "asgi",
            "async def handle(event, context):\n    yield 1\n",
            "handler.py is expected to contain an ASGI app named 'app'",
            "scope, receive, send",
        ),
        ("asgi", "x = 1\n", "handler.py is expected to contain an ASGI app named 'app'", "Starlette"),
        (
            "http",
            "from flask import Flask\napp = Flask('x')\n",
            NONE,
            "this one is a Flask",
        ),
        (
            "stream",
            "def main(): ...\n",
            f"{NONE}; found: 'main'",
            "Name the function",
        ),
    ],
)
def test_what_cannot_serve_is_told(kind: str, source: str, error: str, hint: str) -> None:
    """Both, none, or something else by that name: what was expected, and what to do."""
    with boot_replica(source, kind=kind) as running:
        failed = running.wait_first()

    assert ("failed", error) == (failed["type"], failed["error"])
    assert hint in str(failed["hint"])


def test_a_handle_beside_an_app_that_is_none_serves() -> None:
    """`app` is a common name: only an ASGI app by it competes with handle()."""
    source = "app = object()\ndef handle(event, context):\n    return {'body': 'handle'}\n"
    with loaded_replica(source, kind="http") as running:
        assert b"handle" == running.ask("GET").body


def test_the_scope_is_whole(replica: Replica) -> None:
    """As the specification has it; the client is the last one that the gateway appended."""
    headers = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https", "X-Call-Id": "c-1"}

    scope = ast.literal_eval(replica.ask("PUT", "/tell/..%2F%C3%A4?a=%20b", b"x", headers).text)

    assert scope.pop("headers") == [
        (b"host", b"fn"),
        (b"content-length", b"1"),
        (b"x-forwarded-for", b"6.6.6.6, 1.2.3.4"),
        (b"x-forwarded-proto", b"https"),
        (b"x-call-id", b"c-1"),
    ]
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "https",
        "path": "/tell/../ä",
        "raw_path": b"/tell/..%2F%C3%A4",
        "query_string": b"a=%20b",
        "root_path": "",
        "client": ("1.2.3.4", 0),
        "server": ("localhost", 80),
        "state": {},
        "extensions": {},
    }


def test_an_answer_arrives_as_it_was_sent(replica: Replica) -> None:
    """Status, headers with all their values, body; requests follow each other on the connection."""
    with replica.talk() as talk:
        for body in (b"one", b"", b"x" * 300_000):
            talk.send("POST", "/echo", body)
            head = talk.read_head()
            got = b"".join(iter(talk.read_data, None))

            assert (201, body) == (head.status_code, got)
            assert [b"1", b"2"] == [value for name, value in head.headers if name == b"x-own"]


def test_a_head_request_gets_the_head(replica: Replica) -> None:
    """The app may not care; nobody gets a body."""
    answer = replica.ask("HEAD", "/tell")

    assert (200, b"", True) == (answer.status, answer.body, answer.is_whole)


def test_each_body_arrives_at_once(replica: Replica) -> None:
    """One chunk each, when the app sends it."""
    with replica.talk() as talk:
        talk.send("GET", "/parts")
        talk.read_head()
        pieces, started = [], time.monotonic()
        while (piece := talk.read_data()) is not None:
            pieces.append((piece, time.monotonic() - started))

    assert [b"0", b"1", b"2"] == [piece for piece, _ in pieces]
    assert pieces[1][1] - pieces[0][1] > 0.1


def test_an_event_streams_head_does_not_wait_for_its_first_event(replica: Replica) -> None:
    """Whoever waits for the stream to open learns of it at once."""
    with replica.talk() as talk:
        talk.send("GET", "/events")
        started = time.monotonic()
        talk.read_head()
        head_s = time.monotonic() - started
        data = talk.read_data()

    assert b"data: x\n\n" == data
    assert head_s < 0.3


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/early", "ValueError: before the head"),
        ("/exits", "SystemExit: 3"),
        ("/silent", "the app returned before its reply was whole"),
        ("/twice", "'http.response.start' where the ASGI specification has no place for it"),
        ("/headless", "'http.response.body' where"),
        ("/text", "bytes-like object"),
        ("/split", "not legal in a head"),
    ],
)
def test_failing_before_the_first_byte_is_500(replica: Replica, target: str, logged: str) -> None:
    """Nothing of the reply went out; the log says why; the replica lives on."""
    answer = replica.ask("GET", target)

    assert (500, "function") == (answer.status, answer.headers["x-tailrace-fault"])
    replica.wait_log(logged)
    assert 201 == replica.ask("POST", "/echo").status


@pytest.mark.parametrize(
    ("target", "logged"), [("/late", "after the head"), ("/half", "before its reply was")]
)
def test_failing_later_is_told_to_the_edge(replica: Replica, target: str, logged: str) -> None:
    """A body that every client knows to be cut, in the words the edge knows."""
    with replica.talk() as talk:
        talk.send("GET", target)
        raw = b""
        while piece := talk.socket.recv(65536):
            raw += piece

    assert raw.endswith(b"\r\n\r\n1\r\nx\r\n1;tailrace-fault\r\n")
    replica.wait_log(logged)


def test_what_is_sent_after_the_end_is_ignored(replica: Replica) -> None:
    """And receive() says that it is over, each time."""
    answer = replica.ask("GET", "/further")

    assert (b"whole", True) == (answer.body, answer.is_whole)
    replica.wait_log("after http.disconnect http.disconnect")


def test_work_after_the_reply_holds_up_no_other_call() -> None:
    """The connection takes the next request at once; the replica waits for the work before it leaves."""
    with loaded_replica(APP, kind="asgi") as running, running.talk() as talk:
        talk.send("GET", "/background")
        assert b"whole" == talk.read_answer().body
        started = time.monotonic()
        talk.send("POST", "/echo", b"next")
        assert b"next" == talk.read_answer().body
        took_s = time.monotonic() - started

        running.process.send_signal(signal.SIGTERM)
        running.wait_log("background is done")
        assert 0 == running.process.wait(LIMIT_S)

    assert took_s < 0.5


def test_failing_after_the_reply_is_logged(replica: Replica) -> None:
    """The reply stays whole."""
    answer = replica.ask("GET", "/background_fails")

    assert answer.is_whole
    replica.wait_log("ValueError: in the background")


# The client leaves.


def test_an_app_is_cancelled_when_its_client_leaves() -> None:
    """At once, wherever it waits: a model that is read costs money."""
    with loaded_replica(APP, kind="asgi") as running:
        with running.talk() as talk:
            talk.send("GET", "/busy")
            running.wait_log("busy")
        left = time.monotonic()
        running.wait_log("cancelled")
        took_s = time.monotonic() - left

    assert took_s < 0.5


def test_an_app_that_listens_is_told_first() -> None:
    """http.disconnect, and a second to tidy up; no cancel, no traceback."""
    with loaded_replica(APP, kind="asgi") as running:
        with running.talk() as talk:
            talk.send("GET", "/listens")
            running.wait_log("listens")
        running.wait_log("tidied")
        running.process.send_signal(signal.SIGTERM)
        assert 0 == running.process.wait(LIMIT_S)

        assert "listens\ntidied\n" == running.logs()


def test_an_app_that_was_told_and_stays_is_cancelled() -> None:
    """And others are served meanwhile, although it asks in a loop."""
    with loaded_replica(APP, kind="asgi") as running:
        with running.talk() as talk:
            talk.send("GET", "/stubborn")
            running.wait_log("stubborn")

        assert 201 == running.ask("POST", "/echo").status
        running.wait_log("cancelled")


def test_sending_to_a_client_that_left_raises() -> None:
    """OSError, as the specification says; that is no failure of the function."""
    with loaded_replica(APP, kind="asgi") as running:
        with running.talk() as talk:
            talk.send("GET", "/sends_on")
            talk.read_head()
        running.wait_log("gone: the client left")
        running.process.send_signal(signal.SIGTERM)
        assert 0 == running.process.wait(LIMIT_S)

        assert "Traceback" not in running.logs()


def test_a_client_that_does_not_read_makes_the_app_wait() -> None:
    """What waits for it is bounded."""
    with loaded_replica(APP, kind="asgi") as running, running.talk() as talk:
        talk.send("GET", "/talks")
        running.wait_log("sent 0")
        seen, since = 0, time.monotonic()

        def is_still() -> bool:
            nonlocal seen, since
            now = running.logs().count("sent")
            if now != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 0.5

        wait_until(is_still, LIMIT_S)

    assert seen * 16_384 < 1_000_000


# Its start and its end.

LIFESPAN = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = repr(scope["state"]).encode()
        scope["state"]["mine"] = 1
        await send({"type": "http.response.body", "body": body})
        return
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["shared"] = "yes"
    await asyncio.sleep(0.1)
    START
    assert (await receive())["type"] == "lifespan.shutdown"
    print("shutting down", flush=True)
    await asyncio.sleep(0.1)
    STOP
"""
_COMPLETE = 'await send({"type": "lifespan.startup.complete"})'
_DONE = 'await send({"type": "lifespan.shutdown.complete"})'


def _lifespan(start: str = _COMPLETE, stop: str = _DONE) -> str:
    return LIFESPAN.replace("START", start).replace("STOP", stop)


def test_an_apps_startup_comes_before_the_first_call_and_its_shutdown_after_the_last() -> None:
    """What it leaves in the state every call finds, in a copy of its own."""
    with loaded_replica(_lifespan(stop=f"print('down', flush=True); {_DONE}"), kind="asgi") as running:
        states = [running.ask("GET").text for _ in range(2)]
        running.process.send_signal(signal.SIGTERM)
        assert 0 == running.process.wait(LIMIT_S)

        assert "shutting down\ndown\n" == running.logs()
    assert ["{'shared': 'yes'}"] * 2 == states


def test_a_startup_that_fails_keeps_the_replica_from_serving() -> None:
    """With the app's own words; Starlette's are a traceback, whose last line tells."""
    failed = 'await send({"type": "lifespan.startup.failed", "message": "Trace\\n  no database\\n"}); return'
    with boot_replica(_lifespan(failed), kind="asgi") as running:
        report = running.wait_first()
        assert 1 == running.process.wait(LIMIT_S)

    assert ("failed", "the app's startup failed: no database") == (report["type"], report["error"])
    assert "Trace" in str(report["trace"])


@pytest.mark.parametrize(
    ("start", "stop", "logged"),
    [
        ("raise ValueError('unknown to me')", "", "unknown to me"),
        (_COMPLETE, 'await send({"type": "lifespan.shutdown.failed", "message": "stuck"})', "stuck"),
        (_COMPLETE, "raise ValueError('at the end')", "at the end"),
    ],
)
def test_other_failures_of_a_lifespan_are_logged(start: str, stop: str, logged: str) -> None:
    """The app is served, and the replica ends cleanly."""
    with loaded_replica(_lifespan(start, stop), kind="asgi") as running:
        assert 200 == running.ask("GET").status
        running.process.send_signal(signal.SIGTERM)
        assert 0 == running.process.wait(LIMIT_S)

        assert logged in running.logs()


# Starlette, as it stands.

STARLETTE = """
import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"model": "small"}
    print("closed", flush=True)

async def echo(request):
    return JSONResponse({"body": (await request.body()).decode(), "model": request.state.model,
                         "client": request.client.host, "url": str(request.url)})

async def stream(request):
    async def words():
        try:
            for number in range(1000):
                yield f"data: {number}\\n\\n"
                await asyncio.sleep(0.01 if number < 2 else 30)
        except asyncio.CancelledError:
            print("stream cancelled", flush=True)
            raise
    return StreamingResponse(words(), media_type="text/event-stream")

async def work():
    await asyncio.sleep(0.3)
    print("worked", flush=True)

async def later(request):
    return PlainTextResponse("soon", background=BackgroundTask(work))

async def fail(request):
    raise ValueError("a fault of mine")

async def through(request, call_next):
    response = await call_next(request)
    response.headers["x-through"] = "yes"
    return response

app = Starlette(
    lifespan=lifespan,
    routes=[Route("/echo", echo, methods=["POST"]), Route("/stream", stream), Route("/later", later),
            Route("/fail", fail)],
    middleware=[Middleware(CORSMiddleware, allow_origins=["*"]),
                Middleware(BaseHTTPMiddleware, dispatch=through)],
)
"""


def test_starlette_apps_are_served_as_they_stand() -> None:
    """Lifespan, state, middleware, streams that are cancelled, background tasks, errors."""
    with loaded_replica(STARLETTE, kind="asgi") as running:
        answer = running.ask("POST", "/echo", b"hi", {"X-Forwarded-For": "1.2.3.4"})
        with running.talk() as talk:
            talk.send("GET", "/stream")
            head = dict(talk.read_head().headers)
            pieces = [talk.read_data() for _ in range(3)]
        running.wait_log("stream cancelled")
        soon = running.ask("GET", "/later")
        failed = running.ask("GET", "/fail")
        running.process.send_signal(signal.SIGTERM)
        running.wait_log("worked")
        running.wait_log("closed")
        assert 0 == running.process.wait(LIMIT_S)
        logged = running.logs()

    assert '{"body":"hi","model":"small","client":"1.2.3.4","url":"http://fn/echo"}' == answer.text
    assert "yes" == answer.headers["x-through"]
    assert b"text/event-stream; charset=utf-8" == head[b"content-type"]
    assert [b"data: %d\n\n" % number for number in range(3)] == pieces
    assert (b"soon", 500) == (soon.body, failed.status)
    assert 1 == logged.count("ValueError: a fault of mine\n")


def test_what_an_app_prints_bears_its_call(replica: Replica) -> None:
    """Also what goes on after the reply."""
    replica.ask("GET", "/background_fails", headers={"X-Call-Id": "c-7"})

    report = replica.wait_report(lambda r: "in the background" in str(r.get("text")) and r["call"] == "c-7")
    assert "stderr" == report["stream"]


def test_an_app_that_holds_up_the_others_is_told_of_with_its_call() -> None:
    """As any other handler that blocks the loop."""
    with loaded_replica(APP, kind="asgi") as running:
        running.ask("GET", "/blocks", headers={"X-Call-Id": "c-8"})

        report = running.wait_log("in blocks")
        assert "c-8" == report["call"]


def test_a_request_for_another_protocol_is_not_served(replica: Replica) -> None:
    """The parser stops at it: what it would drop of the body must not be missed by an app."""
    with replica.talk() as talk:
        headers = {"Connection": "Upgrade", "Upgrade": "h2c", "Host": "fn", "Content-Length": "4"}
        talk.send_raw("POST", "/echo", b"body", headers)

        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            talk.read_head()
