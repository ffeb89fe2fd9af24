"""WebSockets through the whole gateway: the example, every end, and what a tunnel must not do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tailrace.cli.stackfile import load_stack
from tests.kit.gateway import Town
from tests.kit.replica import wait_until

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "websocket-echo"
LIMIT_S = 20.0

BEHAVIOURS = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    try:
        await globals()[scope["path"].strip("/")](scope, receive, send)
    except asyncio.CancelledError:
        print("cancelled", scope["path"], flush=True)
        raise

async def refuse(scope, receive, send):
    await send({"type": "websocket.close"})

async def fail(scope, receive, send):
    await send({"type": "websocket.accept"})
    raise ValueError("a fault of mine")

async def closes(scope, receive, send):
    await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
    await send({"type": "websocket.close", "code": 4000, "reason": "enough"})

async def busy(scope, receive, send):
    await send({"type": "websocket.accept"})
    print("busy", flush=True)
    await asyncio.sleep(60)

async def listens(scope, receive, send):
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    print("told", message["code"], repr(message["reason"]), flush=True)

async def floods(scope, receive, send):
    await send({"type": "websocket.accept"})
    for count in range(100_000):
        await send({"type": "websocket.send", "bytes": bytes(16_384)})
        if not count % 100:
            print("flooded", count, flush=True)
"""


@pytest.fixture(scope="module")
def echo(town: Town) -> Town:
    """The example as it stands."""
    (function,) = load_stack(EXAMPLE / "stack.yaml", {}).functions
    assert function.handler is not None
    status = town.deploy(
        "websocket-echo",
        (function.handler / "handler.py").read_text(),
        lang=function.lang,
        requirements=(function.handler / "requirements.txt").read_text(),
    )
    assert status.get("availableReplicas") == 1, status
    return town


@pytest.fixture(scope="module")
def sockets(town: Town) -> Town:
    status = town.deploy("sockets", BEHAVIOURS, lang="python3-asgi")
    assert status.get("availableReplicas") == 1, status
    return town


@contextmanager
def opened(
    town: Town, path: str, *, subprotocols: Sequence[Subprotocol] | None = None
) -> Iterator[ClientConnection]:
    url = town.url.replace("http://", "ws://")
    with connect(
        f"{url}/function/{path}",
        subprotocols=subprotocols,
        open_timeout=LIMIT_S,
        close_timeout=LIMIT_S,
        proxy=None,
    ) as ws:
        yield ws


def test_the_example_echoes(echo: Town) -> None:
    """Text, bytes, a long message, and many at once on several sockets."""
    with opened(echo, "websocket-echo") as one, opened(echo, "websocket-echo") as two:
        sent: list[str | bytes] = ["hello", b"\x00\xff", "x" * 500_000]
        got: list[str | bytes] = []
        for message in sent:
            one.send(message)
            two.send("between")
            got.append(one.recv(LIMIT_S))
            assert "between" == two.recv(LIMIT_S)

    assert sent == got


def test_the_example_tells_a_plain_client_to_connect(echo: Town) -> None:
    """A request that asks for no WebSocket is an ordinary call."""
    with httpx.Client() as client:
        answer = client.get(f"{echo.url}/function/websocket-echo")

    assert (426, "connect with a WebSocket\n") == (answer.status_code, answer.text)


def test_closes_pass_in_both_directions(sockets: Town) -> None:
    """Codes, reasons and the subprotocol."""
    with (
        opened(sockets, "sockets/closes", subprotocols=[Subprotocol("v1"), Subprotocol("v2")]) as ws,
        pytest.raises(ConnectionClosed),
    ):
        ws.recv(LIMIT_S)
    with opened(sockets, "sockets/listens") as leaving:
        leaving.close(4001, "bye")

    assert ("v1", 4000, "enough") == (ws.subprotocol, ws.close_code, ws.close_reason)
    wait_until(lambda: "told 4001 'bye'" in sockets.log_text(), LIMIT_S)


def test_a_refusal_is_an_answer(sockets: Town) -> None:
    """The function said 403; the gateway adds its call id."""
    with pytest.raises(InvalidStatus) as refused, opened(sockets, "sockets/refuse"):
        pass

    assert 403 == refused.value.response.status_code
    assert refused.value.response.headers["X-Call-Id"]


def test_a_function_that_fails_is_1011(sockets: Town) -> None:
    """And its log says why."""
    with opened(sockets, "sockets/fail") as ws, pytest.raises(ConnectionClosed):
        ws.recv(LIMIT_S)

    assert 1011 == ws.close_code
    wait_until(lambda: "a fault of mine" in sockets.log_text(), LIMIT_S)


def test_a_client_that_vanishes_stops_its_function(sockets: Town) -> None:
    """One that listens is told 1006, one that is busy is cancelled; both at once."""
    with opened(sockets, "sockets/listens") as listens, opened(sockets, "sockets/busy") as busy:
        wait_until(lambda: "busy" in sockets.log_text(), LIMIT_S)
        left = time.monotonic()
        for ws in (listens, busy):
            ws.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: "told 1006" in sockets.log_text(), LIMIT_S)
        wait_until(lambda: "cancelled /busy" in sockets.log_text(), LIMIT_S)
        took_s = time.monotonic() - left

    assert took_s < 2


def test_a_client_that_does_not_read_makes_the_function_wait(sockets: Town) -> None:
    """What is on its way is bounded; that it leaves is seen."""
    with opened(sockets, "sockets/floods") as ws:
        wait_until(lambda: "flooded 0" in sockets.log_text(), LIMIT_S)
        seen, since = 0, time.monotonic()

        def is_still() -> bool:
            nonlocal seen, since
            now = sockets.log_text().count("flooded")
            if now != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 1

        wait_until(is_still, LIMIT_S)
        ws.socket.shutdown(socket.SHUT_RDWR)

    assert seen * 100 * 16_384 < 32 * 1024 * 1024


def test_many_sockets_live_side_by_side(echo: Town) -> None:
    """Fifty on one replica, each with its own answers."""
    wrong: list[object] = []

    def talk(number: int) -> None:
        with opened(echo, "websocket-echo") as ws:
            for turn in range(5):
                ws.send(f"{number}.{turn}")
                got = ws.recv(LIMIT_S)
                if got != f"{number}.{turn}":
                    wrong.append((number, turn, got))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)

    assert not any(thread.is_alive() for thread in threads)
    assert [] == wrong


def test_a_new_version_leaves_open_sockets_alone(town: Town) -> None:
    """They end on the code they began with; the next ones meet the new one."""
    source = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": "VERSION"})
"""
    town.deploy("versions", source.replace("VERSION", "one"), lang="python3-asgi")
    with opened(town, "versions") as old:
        old.send("?")
        before = old.recv(LIMIT_S)
        town.deploy("versions", source.replace("VERSION", "two"), lang="python3-asgi")
        with opened(town, "versions") as new:
            new.send("?")
            old.send("?")
            after = (old.recv(LIMIT_S), new.recv(LIMIT_S))

    assert ("one", ("one", "two")) == (before, after)


def test_a_silent_socket_ends_with_the_idle_clock(town: Town) -> None:
    """Its function is stopped with it; one that speaks in time stays."""
    source = """
import asyncio

async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    for word in ("one", "two", "three"):
        await asyncio.sleep(0.6)
        await send({"type": "websocket.send", "text": word})
    try:
        await asyncio.sleep(60)
    finally:
        print("silence was cut", flush=True)
"""
    annotations = {"com.tailrace.timeout.idle": "1s"}
    town.deploy("silence", source, lang="python3-asgi", annotations=annotations)
    with opened(town, "silence") as ws:
        words = [ws.recv(LIMIT_S) for _ in range(3)]
        spoke = time.monotonic()
        with pytest.raises(ConnectionClosed):
            ws.recv(LIMIT_S)
        took_s = time.monotonic() - spoke

    assert ["one", "two", "three"] == words
    assert 0.8 < took_s < 3
    wait_until(lambda: "silence was cut" in town.log_text(), LIMIT_S)
