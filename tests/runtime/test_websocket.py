"""WebSocket: an ASGI app's messages and the client's frames, in both directions and to every end."""

from __future__ import annotations

import ast
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from tests.kit.replica import LIMIT_S, Replica, boot_replica, loaded_replica, wait_until
from tests.kit.websocket import ACCEPTED, HANDSHAKE, RawSocket, connect

pytestmark = pytest.mark.slow

# Each path is one behaviour. What an app learns it prints, so that a test can wait for it.
APP = """
import asyncio
import sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str("websockets" in sys.modules).encode()})
        return
    assert (await receive()) == {"type": "websocket.connect"}
    try:
        await globals()[scope["path"].strip("/") or "echo"](scope, receive, send)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    finally:
        print("over", flush=True)

async def echo(scope, receive, send):
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    print("goodbye", message["code"], repr(message["reason"]), flush=True)

async def tell(scope, receive, send):
    headers = [(b"x-own", b"1"), (b"connection", b"close")]
    await send({"type": "websocket.accept", "subprotocol": "b", "headers": headers})
    scope["headers"] = [name.decode() for name, _ in scope["headers"]]
    await send({"type": "websocket.send", "text": repr(scope)})

async def refuse(scope, receive, send):
    await send({"type": "websocket.close", "code": 4001})
    print("after", (await receive())["code"], flush=True)

async def deny(scope, receive, send):
    kind = "websocket.http.response"
    headers = [(b"x-own", b"1"), (b"content-length", b"4")]
    await send({"type": kind + ".start", "status": 401, "headers": headers})
    await send({"type": kind + ".body", "body": b"no", "more_body": True})
    await send({"type": kind + ".body", "body": b"pe"})

async def half_denied(scope, receive, send):
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})

async def fail(scope, receive, send):
    raise ValueError("before any answer")

async def silent(scope, receive, send):
    return

async def leave(scope, receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "one"})

async def fail_late(scope, receive, send):
    await send({"type": "websocket.accept"})
    raise ValueError("after the handshake")

async def close(scope, receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4321, "reason": "ä" * 100})
    print("after", (await receive())["code"], flush=True)
    try:
        await send({"type": "websocket.send", "text": "late"})
    except OSError as error:
        print("closed:", error, flush=True)
    await send({"type": "websocket.close"})
    await asyncio.sleep(0.5)
    print("worked on", flush=True)

async def misplaced(scope, receive, send):
    await send({"type": "websocket.send", "text": "before accept"})

async def busy(scope, receive, send):
    await send({"type": "websocket.accept"})
    print("busy", flush=True)
    await asyncio.sleep(60)

async def deaf(scope, receive, send):
    await send({"type": "websocket.accept"})
    print("deaf", flush=True)
    await asyncio.sleep(60)

async def tidy(scope, receive, send):
    await send({"type": "websocket.accept"})
    assert (await receive())["code"] == 1006
    await asyncio.sleep(0.5)
    print("tidied", flush=True)

async def stubborn(scope, receive, send):
    await send({"type": "websocket.accept"})
    while True:
        await receive()

async def talk(scope, receive, send):
    await send({"type": "websocket.accept"})
    for count in range(10_000):
        await send({"type": "websocket.send", "bytes": bytes(16_384)})
        print("sent", count, flush=True)

async def many(scope, receive, send):
    await send({"type": "websocket.accept"})
    one = {"type": "websocket.send", "bytes": bytes(100_000)}
    await asyncio.gather(*(send(one) for _ in range(50)))

async def late(scope, receive, send):
    print("connecting", flush=True)
    await asyncio.sleep(0.5)
    await send({"type": "websocket.accept"})
    print("goodbye", (await receive())["code"], flush=True)

async def exits(scope, receive, send):
    await send({"type": "websocket.accept"})
    raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    with loaded_replica(APP, kind="asgi") as running:
        yield running


def test_messages_arrive_as_they_were_sent(replica: Replica) -> None:
    """Text, bytes, the empty ones, and what was cut into fragments; compression is not agreed upon."""
    sent: list[str | bytes] = ["héllo\n", b"\x00\xff", "", b"", "x" * 200_000]

    with connect(replica) as ws:
        got: list[str | bytes] = []
        for message in sent:
            ws.send(message)
            got.append(ws.recv(LIMIT_S))
        ws.send(["a", "b", "c"])
        got.append(ws.recv(LIMIT_S))
        extensions = ws.response.headers.get("Sec-WebSocket-Extensions") if ws.response else ""

    assert [*sent, "abc"] == got
    assert extensions is None


def test_the_library_is_imported_when_a_socket_comes() -> None:
    """Functions without WebSockets pay nothing for them."""
    with loaded_replica(APP, kind="asgi") as fresh:
        before = fresh.ask("GET").text
        with connect(fresh) as ws:
            ws.send("x")
        after = fresh.ask("GET").text

    assert ("False", "True") == (before, after)


def test_the_scope_tells_of_the_handshake(replica: Replica) -> None:
    """Type, scheme behind TLS, path, query, subprotocols, client and headers, as the specification wants."""
    headers = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4", "X-Forwarded-Proto": "https", "X-Call-Id": "c-1"}

    with connect(replica, "/tell?a=%20b", subprotocols=["a", "b"], headers=headers) as ws:
        scope = ast.literal_eval(str(ws.recv(LIMIT_S)))
        assert ws.response is not None
        answer = ws.response.headers

    assert ("websocket", "wss", "/tell", b"/tell", b"a=%20b") == tuple(
        scope[key] for key in ("type", "scheme", "path", "raw_path", "query_string")
    )
    assert (["a", "b"], ("1.2.3.4", 0), "") == (scope["subprotocols"], scope["client"], scope["root_path"])
    assert {"x-call-id", "sec-websocket-key", "host"} <= set(scope["headers"])
    assert {"websocket.http.response": {}} == scope["extensions"]
    assert "method" not in scope
    assert ("b", "1", "Upgrade") == (ws.subprotocol, answer["X-Own"], answer["Connection"])


def test_the_handshake_is_answered_with_its_proof(replica: Replica) -> None:
    """The example of RFC 6455."""
    with RawSocket(replica) as raw:
        head = raw.read_head()

    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert f"Sec-WebSocket-Accept: {ACCEPTED}" in head


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "no base64, is it"}, 400),
    ],
)
def test_what_is_no_handshake_is_refused(
    replica: Replica, headers: dict[str, str | None], status: int
) -> None:
    """The app is not asked."""
    with RawSocket(replica, headers=headers) as raw:
        head = raw.read_head()

    assert head.startswith(f"HTTP/1.1 {status} ")
    assert ("Sec-WebSocket-Version: 13" in head) == (status == 426)


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [("/refuse", 403, b""), ("/deny", 401, b"nope"), ("/fail", 500, None), ("/silent", 500, None)],
)
def test_an_app_can_refuse(replica: Replica, target: str, status: int, body: bytes | None) -> None:
    """Closing before accepting is 403, an answer of its own is that, failing is 500."""
    with pytest.raises(InvalidStatus) as refused:
        connect(replica, target)

    assert status == refused.value.response.status_code
    assert body is None or (refused.value.response.body or b"") == body


def test_a_refusal_that_breaks_off_is_no_clean_answer(replica: Replica) -> None:
    """The app returned in the middle of it."""
    answer = replica.ask("GET", "/half_denied", headers=_upgrade())

    assert (500, "function") == (answer.status, answer.headers["x-tailrace-fault"])


def test_a_message_out_of_place_is_the_apps_fault(replica: Replica) -> None:
    """send() raises; nothing was accepted, so the client gets 500."""
    answer = replica.ask("GET", "/misplaced", headers=_upgrade())

    assert 500 == answer.status
    replica.wait_log("the app sent 'websocket.send' where the ASGI specification has no place for it")


def test_pings_are_answered_while_the_app_is_busy(replica: Replica) -> None:
    """Their pongs carry the same bytes; a pong that nobody asked for is no message."""
    with RawSocket(replica) as raw:
        raw.read_head()
        raw.send_frame(Opcode.PONG, b"unasked")
        raw.send_frame(Opcode.PING, b"same")
        pong = raw.read_frame()
        raw.send_frame(Opcode.TEXT, b"x")
        text = raw.read_frame()

    assert pong is not None
    assert text is not None
    assert [(Opcode.PONG, b"same"), (Opcode.TEXT, b"x")] == [(f.opcode, f.data) for f in (pong, text)]


def test_frames_may_come_with_the_handshake() -> None:
    """A client that does not wait for the answer loses nothing."""
    with loaded_replica(APP, kind="asgi") as fresh, RawSocket(fresh) as raw:
        raw.send_frame(Opcode.TEXT, b"early")
        raw.read_head()
        frame = raw.read_frame()

    assert frame is not None
    assert b"early" == frame.data


# How it ends.


def test_the_clients_close_reaches_the_app_with_its_code(replica: Replica) -> None:
    """And is answered with the same."""
    with connect(replica) as ws:
        ws.close(4007, "enough")

        assert ws.close_code == 4007
    replica.wait_log("goodbye 4007 'enough'")


def test_a_close_without_a_code_is_1005() -> None:
    """As the specification of WebSocket has it."""
    with loaded_replica(APP, kind="asgi") as fresh, RawSocket(fresh) as raw:
        raw.read_head()
        raw.send_frame(Opcode.CLOSE, b"")
        answer = raw.read_frame()

        assert answer is not None
        assert (Opcode.CLOSE, b"") == (answer.opcode, answer.data)
        fresh.wait_log("goodbye 1005 ''")


def test_a_client_that_vanishes_is_1006() -> None:
    """And what the app does to tidy up is not cut off."""
    with loaded_replica(APP, kind="asgi") as fresh:
        with RawSocket(fresh, "/tidy") as raw:
            raw.read_head()

        fresh.wait_log("tidied")
        assert "cancelled" not in fresh.logs()


def test_an_app_that_is_busy_when_its_client_leaves_is_cancelled() -> None:
    """At once but for the moment in which it could have asked: a model that is read costs money."""
    with loaded_replica(APP, kind="asgi") as fresh:
        with RawSocket(fresh, "/busy"):
            fresh.wait_log("busy")
        left = time.monotonic()
        fresh.wait_log("cancelled")
        took_s = time.monotonic() - left

    assert took_s < 1


def test_an_app_that_never_ends_asking_does_not_hold_up_the_others() -> None:
    """It ignores that its client left: others are served, and it is cancelled in the end."""
    with loaded_replica(APP, kind="asgi") as fresh:
        with connect(fresh, "/stubborn"):
            pass

        assert 200 == fresh.ask("GET").status
        fresh.wait_log("cancelled")


def test_the_app_closes_with_a_code(replica: Replica) -> None:
    """A reason that is too long is cut at a letter; work after the close is not cancelled."""
    with connect(replica, "/close") as ws, pytest.raises(ConnectionClosed):
        ws.recv(LIMIT_S)

    assert (4321, "ä" * 61) == (ws.close_code, ws.close_reason)
    replica.wait_log("after 4321")
    replica.wait_log("closed: the WebSocket is closed")
    replica.wait_log("worked on")


def test_returning_closes(replica: Replica) -> None:
    """With 1000, after all that was sent."""
    with connect(replica, "/leave") as ws:
        got = ws.recv(LIMIT_S)
        with pytest.raises(ConnectionClosed):
            ws.recv(LIMIT_S)

    assert ("one", 1000) == (got, ws.close_code)


@pytest.mark.parametrize(
    ("target", "logged"), [("/fail_late", "after the handshake"), ("/exits", "SystemExit")]
)
def test_failing_closes_with_1011_and_is_logged(replica: Replica, target: str, logged: str) -> None:
    """The client learns that it was the function, its author why; the replica lives on."""
    with connect(replica, target) as ws, pytest.raises(ConnectionClosed):
        ws.recv(LIMIT_S)

    assert 1011 == ws.close_code
    replica.wait_log(logged)
    assert 200 == replica.ask("GET").status


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(Opcode.TEXT, b"\xff", True, True)], 1007),
        ([(Opcode.TEXT, b"\xc3", False, True), (Opcode.CONT, b"(", True, True)], 1007),
        ([(Opcode.TEXT, b"x", True, False)], 1002),
        ([(Opcode.CONT, b"x", True, True)], 1002),
        ([(Opcode.TEXT, b"x", False, True), (Opcode.TEXT, b"x", True, True)], 1002),
        ([(Opcode.BINARY, bytes(1_048_577), True, True)], 1009),
        ([(Opcode.BINARY, bytes(600_000), False, True), (Opcode.CONT, bytes(600_000), True, True)], 1009),
    ],
)
def test_frames_that_are_not_legal_end_the_connection(
    replica: Replica, frames: list[tuple[Opcode, bytes, bool, bool]], code: int
) -> None:
    """The code says why, to the client and to the app."""
    with RawSocket(replica) as raw:
        raw.read_head()
        for opcode, data, fin, is_masked in frames:
            raw.send_frame(opcode, data, fin=fin, is_masked=is_masked)

        assert code == raw.read_close()
        assert raw.read_frame() is None
    replica.wait_log(f"goodbye {code}")


@pytest.mark.parametrize(
    "junk", [b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x83\xff" + b"\x7f" * 50]
)
def test_junk_ends_the_connection(replica: Replica, junk: bytes) -> None:
    """Whatever comes instead of frames."""
    with RawSocket(replica) as raw:
        raw.read_head()
        raw.socket.sendall(junk)

        assert 1002 == raw.read_close()


def test_the_largest_message_is_one_mebibyte(replica: Replica) -> None:
    """By default, and to the byte."""
    with connect(replica) as ws:
        ws.send(bytes(1_048_576))
        got = ws.recv(LIMIT_S)

    assert 1_048_576 == len(got)


def test_the_limit_of_a_message_can_be_set() -> None:
    """By a variable of the function; what is no number keeps it from loading."""
    name = "TAILRACE_WEBSOCKET_MAX_BYTES"

    with loaded_replica(APP, kind="asgi", env={name: "10"}) as small, connect(small) as ws:
        ws.send("0123456789")
        assert "0123456789" == ws.recv(LIMIT_S)
        ws.send("0123456789x")
        with pytest.raises(ConnectionClosed):
            ws.recv(LIMIT_S)
        assert 1009 == ws.close_code
    with boot_replica(APP, kind="asgi", env={name: "1 MiB"}) as wrong:
        failed = wrong.wait_first()

    assert ("failed", f"{name} is '1 MiB', expected a number of bytes") == (failed["type"], failed["error"])


# Backpressure.


def test_a_client_that_does_not_read_makes_the_app_wait() -> None:
    """What waits for it is bounded; when it reads, everything comes."""
    with loaded_replica(APP, kind="asgi") as fresh, RawSocket(fresh, "/talk") as raw:
        fresh.wait_log("sent 0")
        stalled = _wait_still(lambda: fresh.logs().count("sent"))
        raw.read_head()
        for _ in range(200):
            assert raw.read_frame() is not None

    assert stalled * 16_384 < 1_000_000


def test_an_app_that_does_not_read_makes_the_client_wait() -> None:
    """What it has not read is bounded; that the client left is seen nonetheless."""
    with loaded_replica(APP, kind="asgi") as fresh, RawSocket(fresh, "/deaf") as raw:
        raw.read_head()
        fresh.wait_log("deaf")
        raw.socket.settimeout(0.5)
        taken = 0
        with pytest.raises(TimeoutError):
            for _ in range(10_000):
                raw.send_frame(Opcode.BINARY, bytes(16_384))
                taken += 16_384
        raw.close()
        fresh.wait_log("cancelled")

    assert taken < 2_000_000


def test_a_message_that_waited_is_read_later(replica: Replica) -> None:
    """Reading goes on when the app has caught up: nothing is lost, and the order stays."""
    words = [f"{number}:".encode() + b"x" * 1000 for number in range(2000)]

    def send() -> None:
        for word in words:
            raw.send_frame(Opcode.TEXT, word)

    with RawSocket(replica) as raw:
        raw.read_head()
        sender = threading.Thread(target=send)
        sender.start()
        got = [raw.read_frame() for _ in words]
        sender.join()

    assert words == [frame.data for frame in got if frame]


def test_tasks_of_an_app_may_send_at_once(replica: Replica) -> None:
    """To a slow client: each goes on when it reads."""
    with connect(replica, "/many") as ws:
        got = [len(ws.recv(LIMIT_S)) for _ in range(50)]

    assert [100_000] * 50 == got


def test_pongs_do_not_pile_up(replica: Replica) -> None:
    """For a client that pings and does not read, what is held is bounded."""
    with RawSocket(replica) as raw:
        raw.read_head()
        ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True)
        raw.socket.sendall(ping * 40_000)
        raw.send_frame(Opcode.CLOSE, b"\x03\xe8")
        pongs = 0
        while (frame := raw.read_frame()) is not None and frame.opcode is Opcode.PONG:
            pongs += 1

    assert 0 < pongs < 20_000


# The replica's own end.


def test_a_replica_that_leaves_asks_its_clients_to_come_again() -> None:
    """Open sockets are closed with 1012, the app learns it, and the process ends cleanly."""
    with loaded_replica(APP, kind="asgi") as fresh, connect(fresh) as ws:
        fresh.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            ws.recv(LIMIT_S)

        assert 1012 == ws.close_code
        fresh.wait_log("goodbye 1012")
        assert 0 == fresh.process.wait(LIMIT_S)


def test_a_socket_that_opens_while_the_replica_leaves_is_closed_too() -> None:
    """Its call was running already; it must not hold the replica up for ever."""
    with loaded_replica(APP, kind="asgi") as fresh, RawSocket(fresh, "/late") as raw:
        fresh.wait_log("connecting")
        fresh.process.send_signal(signal.SIGTERM)
        raw.read_head()

        assert 1012 == raw.read_close()
        raw.send_frame(Opcode.CLOSE, b"\x03\xf4")
        fresh.wait_log("goodbye 1012")
        assert 0 == fresh.process.wait(LIMIT_S)


def test_a_busy_socket_does_not_keep_a_replica_that_leaves() -> None:
    """It is told, and cancelled some seconds later; its client need not answer the close."""
    with loaded_replica(APP, kind="asgi") as fresh, RawSocket(fresh, "/busy") as raw:
        fresh.wait_log("busy")
        fresh.process.send_signal(signal.SIGTERM)
        raw.read_head()

        assert 1012 == raw.read_close()
        fresh.wait_log("cancelled")
        assert 0 == fresh.process.wait(LIMIT_S)
        assert "Traceback" not in fresh.logs()


# Handlers and frameworks.


@pytest.mark.parametrize(
    ("kind", "worker", "source"),
    [
        ("flask", "greenlets", "def handle(req):\n    return 'plain'\n"),
        ("flask", "threads", "def handle(req):\n    return 'plain'\n"),
        ("http", "greenlets", "async def handle(event, context):\n    return 'plain'\n"),
    ],
)
def test_a_handler_that_knows_no_websocket_just_answers(kind: str, worker: str, source: str) -> None:
    """It sees a GET; the client learns that the protocol was not switched."""
    with loaded_replica(source, kind=kind, worker=worker) as plain:
        answer = plain.ask("GET", headers=_upgrade())

    assert (200, b"plain") == (answer.status, answer.body)


STARLETTE = """
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

async def echo(ws):
    await ws.accept(subprotocol="v1")
    while True:
        await ws.send_json({"got": await ws.receive_text()})

async def deny(ws):
    raise HTTPException(status_code=401, detail="who are you?")

app = Starlette(routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/deny", deny)])
"""


def test_starlette_apps_speak_websocket_as_they_stand() -> None:
    """An exception of theirs before the handshake is an answer; one for a client that left is no failure."""
    with loaded_replica(STARLETTE, kind="asgi") as starlette:
        with connect(starlette, "/echo", subprotocols=["v1"]) as ws:
            ws.send("x")
            got = ws.recv(LIMIT_S)
        with pytest.raises(InvalidStatus) as denied:
            connect(starlette, "/deny")
        with pytest.raises(InvalidStatus) as unknown:
            connect(starlette, "/nowhere")
        starlette.process.send_signal(signal.SIGTERM)
        assert 0 == starlette.process.wait(LIMIT_S)
        logged = starlette.logs()

    assert '{"got":"x"}' == got
    assert (401, b"who are you?") == (denied.value.response.status_code, denied.value.response.body)
    assert 403 == unknown.value.response.status_code
    assert "" == logged


def _upgrade() -> dict[str, str]:
    return {name: value for name, value in HANDSHAKE.items() if name != "Host"}


def _wait_still(ask: Callable[[], int]) -> int:
    """What it is once it did not change for half a second."""
    seen = ask(), time.monotonic()

    def is_still() -> bool:
        nonlocal seen
        now = ask()
        if now != seen[0]:
            seen = now, time.monotonic()
        return time.monotonic() - seen[1] > 0.5

    wait_until(is_still, LIMIT_S)
    return seen[0]
