"""A client that reads slowly is not one that has stopped reading."""

from __future__ import annotations

import asyncio
import socket

from tests.kit.edge import edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
STALL_S = 0.5


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A replica that has always more to say."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        await writer.drain()


def test_a_reader_of_a_few_kb_a_second_is_not_cut() -> None:
    """The kernel tells that room has come only after megabytes; what the client takes counts at once."""

    async def main() -> None:
        async with edge_before(flooding, stall_timeout_s=STALL_S) as under_test, asyncio.timeout(20):
            loop = asyncio.get_running_loop()
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", under_test.port))
            await loop.sock_sendall(sock, GET)

            end = loop.time() + 6 * STALL_S
            while loop.time() < end:
                assert await loop.sock_recv(sock, 2048)
                await asyncio.sleep(STALL_S / 20)
            still = under_test.function.ready[0].in_flight

            sock.close()
            under_test.stop_replicas()
        assert still == 1

    run(main())
