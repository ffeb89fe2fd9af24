"""What one client may take from the others: places, queues, connections, bytes, time."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.kit.edge import EdgeUnderTest, Script, edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gate:
    """A replica that answers each request when it is let to, and counts how many it has."""

    def __init__(self) -> None:
        self.asked = 0
        self.most = 0
        self.now = 0
        self.open = asyncio.Semaphore(0)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
            await self.open.acquire()
            self.now -= 1
            writer.write(OK)


async def until(condition: object) -> None:
    """Wait until a condition of this process holds (5 s at most)."""
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def ask(under_test: EdgeUnderTest) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await under_test.connect()
    writer.write(GET)
    return reader, writer


async def status_of(reader: asyncio.StreamReader) -> int:
    line = await asyncio.wait_for(reader.readline(), 5)
    return int(line.split()[1])


def test_a_replica_gets_no_more_calls_at_once_than_it_takes() -> None:
    """The rest waits, first come first served, and each gets its answer."""

    async def main() -> None:
        gate = Gate()
        limited = {"com.tailrace.concurrency.max": "2"}
        async with edge_before(gate, annotations=limited) as under_test:
            calls = []
            for number in range(7):
                calls.append(await ask(under_test))
                await until(lambda n=number + 1: under_test.edge.open_calls == n)
            await until(lambda: gate.asked == 2)
            assert len(under_test.function.waiting) == 5
            order = []

            async def wait(number: int, reader: asyncio.StreamReader) -> None:
                assert await status_of(reader) == 200
                order.append(number)

            waiting = [asyncio.ensure_future(wait(n, reader)) for n, (reader, _) in enumerate(calls)]
            for done in range(1, 8):
                gate.open.release()
                await until(lambda done=done: len(order) == done)

            await asyncio.gather(*waiting)
            assert gate.most == 2
            assert order == sorted(order) or sorted(order[:2]) + order[2:] == list(range(7))
            assert under_test.function.ready[0].in_flight == 0
            for _, writer in calls:
                writer.close()

    run(main())


def test_a_full_queue_is_429_at_once() -> None:
    """With `Retry-After`, and the handler never sees the call."""

    async def main() -> None:
        gate = Gate()
        limited = {"com.tailrace.concurrency.max": "1"}
        async with edge_before(gate, annotations=limited, queue_limit=3) as under_test:
            held = [await ask(under_test) for _ in range(4)]
            await until(lambda: len(under_test.function.waiting) == 3)
            began = time.monotonic()
            answer = await under_test.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            took_s = time.monotonic() - began

            assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert took_s < 0.5
            for _ in range(4):
                gate.open.release()
            assert [await status_of(reader) for reader, _ in held] == [200] * 4
            assert gate.asked == 4
            assert under_test.edge.numbers.of("fn.openfaas-fn").ends["refused"] == 1
            for _, writer in held:
                writer.close()

    run(main())


def test_the_queue_clock_over_is_503_and_frees_the_place() -> None:
    """Also when a replica is there but full; the text says so."""

    async def main() -> None:
        gate = Gate()
        annotations = {"com.tailrace.concurrency.max": "1", "com.tailrace.timeout.queue": "100ms"}
        async with edge_before(gate, annotations=annotations) as under_test:
            first, writer = await ask(under_test)
            await until(lambda: gate.asked == 1)
            answer = await under_test.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"had a free place within 0.1 s" in answer
            assert not under_test.function.waiting
            gate.open.release()
            assert await status_of(first) == 200
            writer.close()

    run(main())


def answering(*replies: bytes) -> Script:
    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.writelines(replies)

    return replica


@pytest.mark.parametrize("sent", [b"", b"GET /function/fn HTTP/1.1\r\nHost: a\r\nX-Slow"])
def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    """One that began is told 408; one that never began is closed."""

    async def main() -> None:
        async with edge_before(answering(OK), header_timeout_s=0.15) as under_test:
            began = time.monotonic()
            answer = await under_test.ask(sent)

            assert time.monotonic() - began < 3
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n") if sent else answer == b""

    run(main())


def test_a_head_that_trickles_in_is_not_given_more_time_by_each_byte() -> None:
    """Slowloris: a byte now and then keeps nothing open."""

    async def main() -> None:
        async with edge_before(answering(OK), header_timeout_s=0.3) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()

            async def trickle() -> None:
                for byte in b"GET /function/fn HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.02)

            trickling = asyncio.ensure_future(trickle())
            assert await status_of(reader) == 408
            trickling.cancel()
            writer.close()

    run(main())


def test_an_idle_connection_is_closed_after_its_time() -> None:
    """Not while it is used: each request begins the time anew."""

    async def main() -> None:
        async with edge_before(answering(OK), keep_alive_timeout_s=0.3) as under_test, asyncio.timeout(10):
            reader, writer = await under_test.connect()
            for _ in range(4):
                writer.write(GET)
                await reader.readuntil(b"\r\n\r\nok")
                await asyncio.sleep(0.15)
            assert await reader.read() == b""
            writer.close()

    run(main())


def test_a_connection_answers_as_many_requests_as_it_may() -> None:
    """The last one says so, then it closes."""

    async def main() -> None:
        async with edge_before(answering(OK), connection_requests=3) as under_test:
            answer = await under_test.ask(GET * 5)

            assert answer.count(b"HTTP/1.1 200 OK") == 3
            assert answer.count(b"Connection: close") == 1

    run(main())


def test_who_is_idle_longest_makes_room_for_who_comes() -> None:
    """Running calls are never cut for a newcomer; without anybody idle it gets 503."""

    async def main() -> None:
        gate = Gate()
        async with edge_before(gate, connection_limit=3) as under_test, asyncio.timeout(10):
            busy, busy_writer = await ask(under_test)
            await until(lambda: gate.asked == 1)
            idle = [await under_test.connect() for _ in range(2)]
            await until(lambda: len(under_test.edge.clients) == 3)
            newcomer, newcomer_writer = await ask(under_test)
            assert await idle[0][0].read() == b""
            await until(lambda: gate.asked == 2)
            second, second_writer = await ask(under_test)
            assert await idle[1][0].read() == b""
            await until(lambda: gate.asked == 3)
            refused = await under_test.ask(GET)

            assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert under_test.edge.numbers.connections_refused == 1
            for _ in range(3):
                gate.open.release()
            assert [await status_of(r) for r in (busy, newcomer, second)] == [200] * 3
            for writer in (busy_writer, newcomer_writer, second_writer, *(w for _, w in idle)):
                writer.close()

    run(main())


def test_a_client_that_stops_reading_pauses_its_function_and_is_cut() -> None:
    """At 64 KiB, and after the time without progress; the slot is free again."""

    async def main() -> None:
        written = 0

        async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                written += 0x4000
                await writer.drain()

        async with edge_before(flooding, stall_timeout_s=0.6) as under_test, asyncio.timeout(20):
            sock = socket.create_connection(("127.0.0.1", under_test.port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(GET)
            await until(lambda: under_test.function.ready[0].in_flight == 1)
            (client,) = under_test.edge.clients
            await until(lambda: client.transport.get_write_buffer_size() > 0)
            assert client.transport.get_write_buffer_size() < 512 * 1024
            began = time.monotonic()
            await until(lambda: under_test.function.ready[0].in_flight == 0)
            await until(lambda: not under_test.edge.clients)

            assert 0.5 < time.monotonic() - began < 1.1, "what it took at first earns it no second time"
            assert {"timeout_stall": 1} == dict(under_test.edge.numbers.of("fn.openfaas-fn").ends)
            sock.close()

    run(main())


def test_a_gateway_that_holds_too_much_takes_no_new_calls() -> None:
    """503 until what is held has left; what runs goes on."""

    async def main() -> None:
        async with edge_before(answering(OK)) as under_test:
            under_test.edge.is_overloaded = True
            refused = await under_test.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            under_test.edge.is_overloaded = False
            taken = await under_test.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"buffer_limit" in refused
            assert taken.startswith(b"HTTP/1.1 200 ")

    run(main())


def test_what_is_held_for_clients_is_counted() -> None:
    """The gauge that the limit is compared with."""

    async def main() -> None:
        async with edge_before(answering(OK), is_ready=False, buffer_limit=1 << 20) as under_test:
            writers = []
            for _ in range(20):
                _, writer = await under_test.connect()
                writer.write(b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n")
                writer.write(b"x" * 200_000)
                writers.append(writer)
            await until(lambda: under_test.edge.is_overloaded)

            assert under_test.edge.numbers.buffered_bytes > 1 << 20
            for writer in writers:
                writer.close()
            await until(lambda: not under_test.edge.is_overloaded)

    run(main())
