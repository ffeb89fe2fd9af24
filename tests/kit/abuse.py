"""Callers and replicas that misbehave in every phase of a call, as values that a test can draw and shrink."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.kit.edge import read_body

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = PLAIN.replace(b"text/plain", b"text/event-stream\r\nX-Tailrace-Dialect: native")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CHUNK = b"9\r\ndata: 1\n\n\r\n"
LAST = b"0\r\n\r\n"
FAULT = b"1;tailrace-fault\r\n"

# What a replica answers: bytes, pauses in seconds, and in the end what becomes of the connection. It waits
# for the "next" request, or is silent ("wait"), never stops ("flood"), or ends ("close", "reset").
REPLIES: dict[str, tuple[bytes | float | str, ...]] = {
    "whole": (OK, "next"),
    "late": (0.03, OK, "next"),
    "whole, closing": (OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), "close"),
    "chunks": (PLAIN, 0.01, CHUNK, 0.01, CHUNK, LAST, "next"),
    "chunks at once": (PLAIN + CHUNK + LAST, "next"),
    "events": (EVENTS, 0.03, CHUNK, 0.01, CHUNK + LAST, "next"),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\nsome", 0.01, b"thing", "close"),
    "interim": (b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01, OK, "next"),
    "surplus": (OK + b"more", "next"),
    "silent": ("wait",),
    "declares and is silent": (EVENTS, "wait"),
    "begins and is silent": (EVENTS + CHUNK, "wait"),
    "half a head": (PLAIN[:20], "wait"),
    "short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "close"),
    "dies": ("close",),
    "resets": ("reset",),
    "dies midway": (PLAIN + CHUNK, "close"),
    "dies in an event": (EVENTS + CHUNK[:7], "reset"),
    "fails": (b"HTTP/1.1 500 X\r\nX-Tailrace-Fault: function\r\nContent-Length: 2\r\n\r\nno", "next"),
    "fails after its head": (EVENTS, 0.01, FAULT, "close"),
    "fails midway": (EVENTS + CHUNK + FAULT, "close"),
    "garbage": (b"\x00\x01\r\n\r\n", "wait"),
    "bad chunks": (PLAIN + CHUNK + b"zz\r\n", "wait"),
    "switches": (SWITCH + b"hi", "wait"),
    "switches and leaves": (SWITCH, 0.02, b"hi", "close"),
    "floods": (PLAIN, "flood"),
}


@dataclass
class Replicas:
    """The script of a replica: the next reply of its list for each request; `whole` ones once it is calm.

    Args:
        replies: Names of REPLIES, each with whether it comes without a look at the request's body.
    """

    replies: list[tuple[str, bool]]
    is_calm: bool = False
    _turns: Iterator[tuple[str, bool]] = field(init=False)

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.replies)

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            name, is_deaf = ("whole", False) if self.is_calm else next(self._turns)
            if not is_deaf:
                await read_body(head, reader)
            if not await self._answer(writer, REPLIES[name]) or is_deaf:
                return

    async def _answer(self, writer: Writer, steps: tuple[bytes | float | str, ...]) -> bool:
        """Whether the connection may carry another request."""
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step == "wait":
                await asyncio.sleep(60)
            elif step == "reset":
                writer.transport.abort()
            while step == "flood":
                writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                await writer.drain()
        return steps[-1] == "next"


Sends = Literal["nothing", "half a head", "head", "half a body", "all", "all twice"]
Body = Literal["none", "sized", "chunked", "large"]
Waits = Literal["not", "a moment", "for a byte", "for the end"]
Leaves = Literal["close", "reset", "half"]

# Over what the edge holds for a call that waits, so that its client is paused.
LARGE = b"x" * 200_000
# Every client leaves after so long at the latest.
PATIENCE_S = 0.3
# What a connection raises that the other side has closed; the second is uvloop's.
_CUT = (OSError, RuntimeError)


@dataclass(frozen=True)
class Caller:
    """One client: what it sends, what it waits for, how it leaves.

    Attributes:
        comes_s: When it connects.
        pause_s: Between the two halves of what it sends, and how long a moment is.
        is_reading: False: it takes nothing of its answer but one byte, if it waits for that.
    """

    sends: Sends = "all"
    body: Body = "none"
    headers: tuple[bytes, ...] = ()
    waits: Waits = "for the end"
    leaves: Leaves = "close"
    comes_s: float = 0.0
    pause_s: float = 0.0
    is_reading: bool = True

    def request(self) -> tuple[bytes, bytes]:
        """Head and body of what it would send."""
        framing, body = {
            "none": (b"", b""),
            "sized": (b"Content-Length: 9\r\n", b"some body"),
            "chunked": (b"Transfer-Encoding: chunked\r\n", b"4\r\nsome\r\n5\r\n body\r\n0\r\n\r\n"),
            "large": (b"Content-Length: %d\r\n" % len(LARGE), LARGE),
        }[self.body]
        method = b"POST" if body else b"GET"
        lines = b"".join(line + b"\r\n" for line in self.headers)
        return b"%b /function/fn HTTP/1.1\r\nHost: a\r\n%b%b\r\n" % (method, lines, framing), body

    def halves(self) -> tuple[bytes, bytes]:
        """What it sends, before and after its pause."""
        head, body = self.request()
        half, whole = len(head) // 2, head + body
        return {
            "nothing": (b"", b""),
            "half a head": (head[:half], b""),
            "head": (head[:half], head[half:]),
            "half a body": (head, body[: len(body) // 2]),
            "all": (whole[:half], whole[half:]),
            "all twice": (whole, whole),
        }[self.sends]

    async def call(self, port: int) -> None:
        """Do it all. What the edge does to it is no error here."""
        await asyncio.sleep(self.comes_s)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        except ConnectionError:  # it drains
            return
        with contextlib.suppress(*_CUT, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._talk(reader, writer)
        if not writer.transport.is_closing():
            with contextlib.suppress(*_CUT):
                await self._leave(writer)
        writer.transport.abort()

    async def _talk(self, reader: Reader, writer: Writer) -> None:
        first, second = self.halves()
        writer.write(first)
        await asyncio.sleep(self.pause_s)
        writer.write(second)
        if self.waits == "a moment":
            await asyncio.sleep(self.pause_s)
        elif self.waits != "not":
            await reader.read(1)
        if self.waits == "for the end":
            if not self.is_reading:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
                await asyncio.sleep(PATIENCE_S)
            while await reader.read(65536):
                pass

    async def _leave(self, writer: Writer) -> None:
        if self.leaves == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.leaves == "half":
            writer.write_eof()
            await asyncio.sleep(0.02)
