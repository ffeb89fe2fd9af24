"""What the edge promises where two of its features meet."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Callable
from typing import cast

import pytest

from tailrace.edge import connection
from tailrace.edge.heads import Request
from tests.kit.edge import edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: a\r\n\r\n"
GET_AND_CLOSE = b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition of this process holds (5 s at most)."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_before_an_early_head() -> None:
    """Behind it the line would stand in the middle of the body."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_request(reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 11\r\n\r\n"
        writer.write(head + b"data: %b\n\n" % body)

    async def main() -> None:
        async with edge_before(replica, is_ready=False, early_head_s=0.05) as under_test:
            reader, writer = await under_test.connect()
            writer.write(
                b"POST /function/fn HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"
                b"Expect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
            )
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            under_test.add_replica()
            writer.write(b"abc")
            assert await reader.read() == b"b\r\ndata: abc\n\n\r\n0\r\n\r\n"
            writer.close()

    run(main())


def test_a_websocket_has_no_early_head() -> None:
    """A function that gives every caller an early head still has its websockets, however late it answers."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")

    async def main() -> None:
        always = {"com.tailrace.stream.early-head": "on", "com.tailrace.stream.status": "on"}
        async with edge_before(replica, annotations=always, early_head_s=0.03) as under_test:
            reader, writer = await under_test.connect()
            writer.write(
                b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
            writer.close()

    run(main())


def test_a_function_cannot_have_its_answers_length_dropped() -> None:
    """A length that its Connection header names stays: without it the client could not tell where it ends."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: content-length, x\r\nX: 1\r\nContent-Length: 2\r\n\r\nok"
        )

    async def main() -> None:
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(GET_AND_CLOSE)
            assert b"\r\nContent-Length: 2\r\n" in answer
            assert b"\r\nX: 1\r\n" not in answer

    run(main())


def test_a_client_that_was_held_back_gets_its_time_to_go_on() -> None:
    """Its silence while nobody read it is not its own, not even in the turn in which it is read again."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_request(reader)
            if head.startswith(b"GET /held"):
                await reader.read()  # until it is left
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%07d" % len(body))

    async def main() -> None:
        one = {"com.tailrace.concurrency.max": "1"}
        async with edge_before(
            replica, annotations=one, stall_timeout_s=0.3, start_timeout_s=0.5, early_head_s=0.2
        ) as under_test:
            # The second waited for the first's place: two connections to the replica are idle now.
            await asyncio.gather(under_test.ask(GET_AND_CLOSE), under_test.ask(GET_AND_CLOSE))
            holder, holding = await under_test.connect()
            holding.write(GET.replace(b"/fn", b"/fn/held"))
            await until(lambda: under_test.edge.open_calls == 1)
            upload = asyncio.ensure_future(
                under_test.ask(
                    b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
                    b"Connection: close\r\n\r\n" + b"x" * 1_000_000
                )
            )
            await until(lambda: under_test.function.waiting)
            await asyncio.sleep(0.1)
            # Now the first call's end, which makes room for the second, and a look at the second are due
            # in one turn of the loop.
            time.sleep(0.6)  # noqa: ASYNC251
            assert (await upload).endswith(b"\r\n\r\n1000000")
            assert (await holder.readline()).startswith(b"HTTP/1.1 504 ")
            holding.close()

    run(main())


def test_a_reader_that_became_full_before_its_function_began_pauses_it() -> None:
    """What the gateway itself sends to a caller that waits may be what fills it."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(80):
                writer.write(b"186a0\r\n%b\r\n" % (b"x" * 100_000))
                await writer.drain()
            writer.write(b"0\r\n\r\n")

    async def main() -> None:
        told = {"com.tailrace.stream.status": "on", "com.tailrace.stream.early-head": "on"}
        async with edge_before(replica, annotations=told) as under_test:
            edge, numbers = under_test.edge, under_test.edge.numbers.of("fn.openfaas-fn")
            _, writer = await under_test.connect()
            reading = cast("asyncio.ReadTransport", writer.transport)
            reading.pause_reading()
            await until(lambda: edge.clients)
            (client,) = edge.clients
            client.transport.set_write_buffer_limits(high=64_000_000)
            writer.write(GET)
            await until(lambda: numbers.ends["done"] == 1)
            left = client.transport.get_write_buffer_size()
            client.transport.set_write_buffer_limits(high=left + 100)
            under_test.function.ready = []
            writer.write(GET)
            await until(lambda: under_test.function.waiting)
            under_test.function.route()
            await until(lambda: numbers.in_flight == 1)
            await asyncio.sleep(0.2)
            assert client.transport.get_write_buffer_size() < left + 600_000
            writer.transport.abort()

    run(main())


def test_an_answer_before_the_requests_end_is_not_cut_while_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is left of it when no more of the request is waited for still leaves."""
    monkeypatch.setattr(connection, "LINGER_S", 0.1)

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n%b" % (b"x" * 200_000))

    async def main() -> None:
        async with edge_before(replica) as under_test:
            reader, writer = await under_test.connect()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reading = cast("asyncio.ReadTransport", writer.transport)
            reading.pause_reading()
            await until(lambda: under_test.edge.clients)
            (client,) = under_test.edge.clients
            client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            writer.write(b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
            await until(lambda: client.transport.get_write_buffer_size() > 50_000)
            await asyncio.sleep(0.3)
            reading.resume_reading()
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Connection: close" in head
            assert len(await reader.read()) == 200_000
            writer.close()

    run(main())


def test_a_connection_remembers_no_long_head() -> None:
    """A client that shows 60 KiB of headers and then waits holds none of it."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def main() -> None:
        async with edge_before(replica) as under_test:
            reader, writer = await under_test.connect()
            long = b"X: %b\r\n" % (b"x" * 290) * 199
            writer.write(b"GET /function/fn HTTP/1.1\r\nHost: a\r\n%b\r\n" % long)
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
            await until(lambda: under_test.edge.idle)
            gc.collect()
            assert not [text for text in gc.get_objects() if isinstance(text, Request)]
            writer.close()

    run(main())


def test_an_idle_connection_holds_nothing_of_its_last_request() -> None:
    """What was kept for the next request like it is let go at the first look that finds nobody asking."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def main() -> None:
        async with edge_before(replica, early_head_s=0.1) as under_test:
            reader, writer = await under_test.connect()
            for _ in range(2):
                writer.write(GET)
                await reader.readuntil(b"\r\n\r\nok")

                def are_gone() -> bool:
                    gc.collect()
                    return not any(isinstance(known, Request) for known in gc.get_objects())

                await until(are_gone)
            assert under_test.edge.idle
            writer.close()

    run(main())


@pytest.mark.parametrize(("first", "status"), [(b"", 499), (b"a\r\n0123456789\r\n", 200)])
def test_a_head_that_is_held_was_not_sent(first: bytes, status: int) -> None:
    """A caller who leaves between the function's head and its first byte got no status."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + first)
        await reader.read()

    async def main() -> None:
        async with edge_before(replica) as under_test:
            numbers = under_test.edge.numbers.of("fn.openfaas-fn")
            reader, writer = await under_test.connect()
            writer.write(GET)
            await until(lambda: numbers.open_streams)
            if first:
                await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            await until(lambda: numbers.ends["client_gone"])

            assert [status] == list(numbers.codes)

    run(main())
