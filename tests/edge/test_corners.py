"""What the edge promises where two of its features meet."""

from __future__ import annotations

import asyncio

from tests.kit.edge import edge_before, read_request
from tests.kit.loops import run


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
