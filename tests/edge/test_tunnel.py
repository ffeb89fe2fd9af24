"""A websocket through the edge: two connections that become one pipe, and end together."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

import pytest

from tests.kit.edge import EdgeUnderTest, edge_before
from tests.kit.loops import run

UPGRADE = (
    b"GET /function/fn/chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: x\r\n\r\n"
)


class Echo:
    """A replica that switches and sends back what it gets, until it is told to hold still."""

    def __init__(self, *, first: bytes = b"", is_reading: bool = True) -> None:
        self.first = first
        self.is_reading = is_reading
        self.head = b""
        self.got = b""
        self.is_asked = asyncio.Event()
        self.is_left = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + self.first)
        self.is_asked.set()
        if not self.is_reading:
            await self.may_end.wait()
            return
        while piece := await reader.read(65536):
            self.got += piece
            if piece == b"bye":
                return
            writer.write(piece)
        self.is_left.set()


async def upgrade(under_test: EdgeUnderTest) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await under_test.connect()
    writer.write(UPGRADE)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nConnection: Upgrade\r\n" in head
    assert b"\r\nX-Call-Id: " in head
    return reader, writer


def ends(under_test: EdgeUnderTest) -> dict[str, int]:
    return dict(under_test.edge.numbers.of("fn.openfaas-fn").ends)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_bytes_pass_both_ways_as_they_are() -> None:
    """What came with either head included; the function sees the handshake's own headers."""

    async def main() -> None:
        echo = Echo(first=b"hello")
        async with edge_before(echo) as under_test, asyncio.timeout(10):
            reader, writer = await upgrade(under_test)
            assert await reader.readexactly(5) == b"hello"
            for piece in (b"\x81\x05abcde", b"x" * 300_000):
                writer.write(piece)
                assert await reader.readexactly(len(piece)) == piece

            lines = echo.head.lower().split(b"\r\n")
            assert lines[0] == b"get /chat http/1.1"
            assert b"upgrade: websocket" in lines
            assert b"connection: upgrade" in lines
            assert b"sec-websocket-key: aaaaaaaaaaaaaaaaaaaaaa==" in lines
            assert under_test.function.ready[0].in_flight == 1
            writer.close()

    run(main())


def test_when_the_function_ends_the_client_is_closed_and_the_call_is_done() -> None:
    """What it sent last still arrives; its place is free."""

    async def main() -> None:
        async with edge_before(Echo()) as under_test, asyncio.timeout(10):
            reader, writer = await upgrade(under_test)
            writer.write(b"a")
            assert await reader.readexactly(1) == b"a"
            assert under_test.edge.numbers.connections_open == 1
            writer.write(b"bye")
            assert await reader.read() == b""
            await until(lambda: ends(under_test) == {"done": 1})

            assert under_test.function.ready[0].in_flight == 0
            assert not under_test.edge.clients
            assert under_test.edge.numbers.connections_open == 0
            assert under_test.edge.open_calls == 0
            writer.close()

    run(main())


def test_when_the_client_leaves_the_function_is_told() -> None:
    """Its connection closes; the end reason says who left."""

    async def main() -> None:
        echo = Echo()
        async with edge_before(echo) as under_test, asyncio.timeout(10):
            _, writer = await upgrade(under_test)
            writer.close()
            await echo.is_left.wait()

            await until(lambda: ends(under_test) == {"client_gone": 1})
            assert under_test.function.ready[0].in_flight == 0

    run(main())


def test_a_side_that_does_not_read_pauses_the_other() -> None:
    """The edge holds a bounded number of bytes; a leaving behind them is still seen."""

    async def main() -> None:
        echo = Echo(is_reading=False)
        async with edge_before(echo) as under_test, asyncio.timeout(20):
            _, writer = await upgrade(under_test)
            await echo.is_asked.wait()
            (tunnel,) = under_test.edge.clients
            held = 0
            for _ in range(400):
                writer.write(b"x" * 65536)
                await asyncio.sleep(0)
                held = max(held, tunnel.held_bytes())
            await asyncio.sleep(0.2)
            held = max(held, tunnel.held_bytes())
            assert held < 1_000_000
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            await until(lambda: ends(under_test))
            assert ends(under_test) == {"client_gone": 1}
            echo.may_end.set()

    run(main())


@pytest.mark.parametrize(("clock", "reason"), [("idle", "timeout_idle"), ("total", "timeout_total")])
def test_the_clocks_run_over_both_directions(clock: str, reason: str) -> None:
    """Silence of both ends it; a total ends it although it speaks."""

    async def main() -> None:
        annotations = {f"com.tailrace.timeout.{clock}": "300ms"}
        async with edge_before(Echo(), annotations=annotations) as under_test, asyncio.timeout(10):
            reader, writer = await upgrade(under_test)
            spoken = 0
            with contextlib.suppress(ConnectionResetError):  # the answer to what is said after the end
                for _ in range(4 if clock == "idle" else 40):
                    writer.write(b"a")
                    if not await reader.read(1):
                        break
                    spoken += 1
                    await asyncio.sleep(0.1)
                assert await reader.read() == b""

            assert spoken == 4 if clock == "idle" else spoken < 10
            assert ends(under_test) == {reason: 1}
            writer.close()

    run(main())


@pytest.mark.parametrize(
    "asked",
    [
        UPGRADE.replace(b"GET ", b"POST "),
        UPGRADE.replace(b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"),
        UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_only_a_websocket_is_upgraded(asked: bytes) -> None:
    """Anything else is stripped, and a 101 to it is a broken function."""

    async def main() -> None:
        echo = Echo()
        async with edge_before(echo) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            writer.write(asked)
            answer = await reader.readuntil(b"no websocket")

            assert b"upgrade" not in echo.head.lower()
            assert answer.startswith(b"HTTP/1.1 502 ")
            writer.close()

    run(main())


def test_the_control_plane_is_no_websocket() -> None:
    """Outside /function/ the upgrade is stripped."""

    async def main() -> None:
        async with edge_before(Echo()) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            writer.write(UPGRADE.replace(b"/function/fn/chat", b"/system/info"))

            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()

    run(main())


def test_a_function_that_refuses_answers_as_to_any_request() -> None:
    """403 before the handshake; the connection lives on."""

    async def main() -> None:
        async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")

        async with edge_before(refusing) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            for _ in range(2):
                writer.write(UPGRADE)
                assert (await reader.readuntil(b"\r\n\r\nno")).startswith(b"HTTP/1.1 403 ")
            writer.close()

    run(main())


def test_a_websocket_is_a_stream_whose_content_nobody_looks_at() -> None:
    """Open while it is open; its length is no time to first content; its log line has the 101's moment."""

    async def main() -> None:
        async with edge_before(Echo()) as under_test, asyncio.timeout(10):
            numbers = under_test.edge.numbers.of("fn.openfaas-fn")
            reader, writer = await upgrade(under_test)
            assert numbers.open_streams == 1
            writer.write(b"bye")
            assert await reader.read() == b""
            await until(lambda: ends(under_test) == {"done": 1})

            assert numbers.open_streams == 0
            assert numbers.first_content.count == 0
            assert list(numbers.codes) == [101]
            writer.close()

    run(main())


def test_a_gateway_that_stops_at_once_says_so() -> None:
    """Not that the client left: it did not."""

    async def main() -> None:
        async with edge_before(Echo()) as under_test, asyncio.timeout(10):
            reader, writer = await upgrade(under_test)
            await under_test.edge.aclose()

            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert ends(under_test) == {"stop": 1}
            writer.close()

    run(main())


def test_a_drain_waits_for_tunnels_and_then_ends_them() -> None:
    """They are calls."""

    async def main() -> None:
        async with edge_before(Echo()) as under_test, asyncio.timeout(10):
            reader, writer = await upgrade(under_test)
            await under_test.edge.drain(0.3)

            assert await reader.read() == b""
            assert ends(under_test) == {"drain": 1}
            writer.close()

    run(main())


def test_a_websocket_that_is_refused_costs_no_other_call() -> None:
    """Servers close the connection after it, without saying so: no other call is sent there."""
    calls_of: list[int] = []

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(calls_of)
        calls_of.append(0)
        while await reader.readuntil(b"\r\n\r\n"):
            calls_of[number] += 1
            writer.write(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")

    async def main() -> None:
        async with edge_before(replica) as under_test, asyncio.timeout(10):
            reader, writer = await under_test.connect()
            for request in (UPGRADE, UPGRADE.replace(b"pgrade", b"x"), UPGRADE.replace(b"pgrade", b"x")):
                writer.write(request)
                assert (await reader.readuntil(b"\r\n\r\nno")).startswith(b"HTTP/1.1 426 ")
            writer.close()

    run(main())
    assert calls_of == [1, 2]
