"""A server on loopback that results are delivered to, and what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tailrace.queue.signing import DELIVERY, SIGNATURE, TIMESTAMP, sign


@dataclass(frozen=True)
class Delivered:
    """One request. Header names are lower-case; of one that came twice the first counts, as for most.

    Attributes:
        names: Of all its headers, as often as they came.
    """

    target: str
    headers: Mapping[str, str]
    body: bytes
    names: Sequence[str] = ()

    @property
    def run(self) -> str:
        return self.headers["x-call-id"]

    @property
    def delivery(self) -> str:
        return self.headers[DELIVERY.lower()]

    def is_signed(self, secret: bytes) -> bool:
        """Whether its signature is what a receiver with the secret would make."""
        made = sign(
            secret,
            timestamp=int(self.headers[TIMESTAMP.lower()]),
            delivery=self.delivery,
            status=int(self.headers["x-function-status"]),
            body=self.body,
        )
        return made == self.headers[SIGNATURE.lower()]


@dataclass
class Receiver:
    """What came, and what is answered: a status, and header lines."""

    port: int = 0
    came: list[Delivered] = field(default_factory=list)
    answer: Callable[[Delivered], tuple[int, str]] = lambda _: (200, "")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait(self, count: int, *, limit_s: float = 15.0) -> list[Delivered]:
        """So many requests, once they have come."""
        async with asyncio.timeout(limit_s):
            while len(self.came) < count:
                await asyncio.sleep(0.005)
        return self.came

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.partition(": ") for line in head[1:-2]]
            headers = {name.lower(): value for name, _, value in reversed(pairs)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            came = Delivered(head[0].split(" ")[1], headers, body, [name.lower() for name, _, _ in pairs])
            self.came.append(came)
            status, lines = self.answer(came)
            writer.write(
                f"HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
        writer.close()


@contextlib.asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver while the context is open; port 0 takes a free one."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


@contextlib.asynccontextmanager
async def hanging() -> AsyncIterator[tuple[str, set[str]]]:
    """A receiver that never answers, while the context is open: its URL, and the calls it was sent."""
    came: set[str] = set()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            came.add(head.lower().partition("x-call-id: ")[2].partition("\r\n")[0])
            await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", came
        finally:
            over.set()
