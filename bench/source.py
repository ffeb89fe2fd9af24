"""The upstream of a benchmark: a replica that costs as little as Python can, on a unix socket.

``GET /`` answers 128 bytes. ``GET /stream?n=30&gap_ms=100`` answers n chunks, one every gap_ms;
``gap_ms=0`` answers them as fast as they are taken.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast
from urllib.parse import parse_qs, urlsplit

import uvloop

SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + b"x" * 128
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"delta":{"content":" token"}}],"padding":"' + b"x" * 100 + b'"}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


class Source(asyncio.Protocol):
    """One connection of the upstream."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.left = 0
        self.gap_s = 0.0
        self.is_full = False

    def data_received(self, data: bytes) -> None:
        target = data.split(b" ", 2)[1].decode()
        if not target.startswith("/stream"):
            self.transport.write(SMALL)
            return
        query = parse_qs(urlsplit(target).query)
        self.left = int(query["n"][0])
        self.gap_s = int(query["gap_ms"][0]) / 1000
        self.transport.write(HEAD)
        self.next_at = self.loop.time()
        self.send()

    def send(self) -> None:
        """The next chunk, on its own schedule: a late one does not delay the others."""
        while self.left and not self.is_full and not self.transport.is_closing():
            self.left -= 1
            self.transport.write(CHUNK)
            if not self.left:
                self.transport.write(b"0\r\n\r\n")
            elif self.gap_s:
                self.next_at += self.gap_s
                self.loop.call_at(self.next_at, self.send)
                return
            elif self.left % 16 == 0:
                self.loop.call_soon(self.send)
                return

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self.send()


async def main(path: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(Source, path, backlog=2048)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # ends with the parent
    server.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
