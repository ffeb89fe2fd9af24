"""What `Edge.drain` promises to those who are connected when it begins."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from tests.kit.edge import EdgeUnderTest, edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = 4 * 1024 * 1024


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request at once."""
    while True:
        await read_request(reader)
        writer.write(OK)


async def drain(under_test: EdgeUnderTest, timeout_s: float) -> float:
    """The seconds it took."""
    begin = time.monotonic()
    await under_test.edge.drain(timeout_s)
    return time.monotonic() - begin


@pytest.mark.parametrize("sent_before", [0, 1, len(GET) - 1])
def test_a_request_that_was_on_its_way_is_answered(sent_before: int) -> None:
    """Its client connected before the drain began, and may have sent a part of its head."""

    async def main() -> None:
        async with edge_before(answer) as under_test:
            reader, writer = await under_test.connect()
            writer.write(GET[:sent_before])
            await asyncio.sleep(0.02)  # accepted

            draining = asyncio.create_task(drain(under_test, 10))
            await asyncio.sleep(0.05)
            writer.write(GET[sent_before:])
            text = await reader.read()

            assert text.startswith(b"HTTP/1.1 200")
            assert b"Connection: close" in text
            assert await draining < 1.0
            writer.close()

    run(main())


def test_who_connected_and_says_nothing_is_not_waited_for() -> None:
    """A browser opens connections in advance: a quarter of a second, then it is closed."""

    async def main() -> None:
        async with edge_before(answer) as under_test:
            reader, writer = await under_test.connect()
            await asyncio.sleep(0.02)

            took_s = await drain(under_test, 10)

            assert 0.2 < took_s < 0.5
            assert b"" == await reader.read()
            writer.close()

    run(main())


def test_an_idle_connection_is_closed_at_once() -> None:
    """One that had its answer and sends nothing."""

    async def main() -> None:
        async with edge_before(answer) as under_test:
            reader, writer = await under_test.connect()
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\nok")

            took_s = await drain(under_test, 10)

            assert took_s < 0.1
            assert b"" == await reader.read()
            writer.close()

    run(main())


def test_calls_that_follow_each_other_are_all_waited_for() -> None:
    """The last call's end is not the end of the drain when another one has begun meanwhile."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            await asyncio.sleep(0.1 if b"first" in head else 0.4)
            writer.write(OK)

    async def main() -> None:
        async with edge_before(slow) as under_test:
            first, second = await under_test.connect(), await under_test.connect()
            first[1].write(GET.replace(b"fn", b"fn/first"))
            await asyncio.sleep(0.02)

            draining = asyncio.create_task(drain(under_test, 10))
            await asyncio.sleep(0.1)
            second[1].write(GET)
            texts = [await reader.read() for reader, _ in (first, second)]

            assert [True, True] == [text.startswith(b"HTTP/1.1 200") for text in texts]
            assert 0.4 < await draining < 1.0
            for _, writer in (first, second):
                writer.close()

    run(main())


async def read_slowly(sock: socket.socket) -> int:
    """Bytes read until the end, not at once."""
    loop, count = asyncio.get_running_loop(), 0
    with contextlib.suppress(ConnectionResetError):
        while piece := await loop.sock_recv(sock, 65536):
            count += len(piece)
            await asyncio.sleep(0.0005)
    return count


def test_a_slow_reader_gets_the_end_of_its_answer() -> None:
    """The call is over for the function long before its last byte has left."""

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + bytes(LARGE))
        await writer.drain()
        await asyncio.Event().wait()

    async def main() -> None:
        async with edge_before(large) as under_test:
            loop = asyncio.get_running_loop()
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", under_test.port))
                await loop.sock_sendall(sock, GET)
                first = len(await loop.sock_recv(sock, 1024))

                draining = asyncio.create_task(drain(under_test, 10))
                rest = await read_slowly(sock)

                assert first + rest > LARGE
                assert await draining < 5.0
            under_test.stop_replicas()

    run(main())


def test_what_is_left_when_the_time_is_over_is_ended_at_once() -> None:
    """A client that reads nothing holds nobody up for longer than the drain and a second."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async def main() -> None:
        async with edge_before(endless) as under_test:
            with socket.create_connection(("127.0.0.1", under_test.port)) as sock:
                sock.send(GET)
                await asyncio.sleep(0.1)

                took_s = await drain(under_test, 0.3)

            assert 0.3 <= took_s < 1.5
            under_test.stop_replicas()

    run(main())
