"""What a replica says on its pipes: lines of text, and JSON reports. All of it is hostile and bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Literal, cast

import msgspec

# What a line may have before it is cut; the runtime keeps its reports below 64 KiB.
LINE_LIMIT = 64 * 1024 + 1024
# A replica that prints without end gets 1,000 lines per turn, about 2 ms of the loop, and then waits
# 20 ms: 50,000 lines/s. Its pipe fills and its writes wait, so only the function that floods slows down.
_LINES_PER_TURN = 1000
_PAUSE_S = 0.02
_CALL_ID = re.compile(r"[A-Za-z0-9._-]{0,128}")


class Loaded(msgspec.Struct, tag="loaded", tag_field="type"):
    """The handler is imported and the socket listens."""

    import_s: float = 0.0


class Failed(msgspec.Struct, tag="failed", tag_field="type"):
    """The handler cannot be imported."""

    error: str
    trace: str = ""
    hint: str = ""


class Log(msgspec.Struct, tag="log", tag_field="type"):
    """What the handler wrote while the call ``call`` ran."""

    text: str
    stream: Literal["stdout", "stderr"] = "stdout"
    call: str = ""


class Retiring(msgspec.Struct, tag="retiring", tag_field="type"):
    """It takes no more calls, because one of them cannot be stopped; it ends by itself."""

    reason: str = ""


Report = Loaded | Failed | Log | Retiring
_DECODER: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def parse_report(line: bytes) -> Report | None:
    """The report that a line holds; None when it is none."""
    try:
        report = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(report, Log) and not _CALL_ID.fullmatch(report.call):
        report.call = ""
    return report


class LineFeed(asyncio.Protocol):
    """Cuts what a pipe gives into lines and hands each to take, newline included.

    A line over `LINE_LIMIT` is handed on in pieces. Holds one read of the pipe and at most one unfinished
    line; when lines come faster than 50,000 a second the pipe is not read for a while.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._buffer = bytearray()
        self._transport: asyncio.ReadTransport | None = None
        self._later: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._later is None:
            self._hand_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Hand on all that is left, the unfinished line too."""
        if self._later is not None:
            self._later.cancel()
        while self._buffer:
            self._take(self._cut() or self._rest())
        self.ended.set()

    def close(self) -> None:
        """Stop reading; what was read before is handed on. Takes effect in the next turn of the loop."""
        if self._later is not None:
            self._later.cancel()
        if self._transport is not None:
            self._transport.close()

    def _hand_on(self) -> None:
        was_paused, self._later = self._later is not None, None
        for _ in range(_LINES_PER_TURN):
            line = self._cut()
            if line is None:
                if was_paused and self._transport is not None:
                    self._transport.resume_reading()
                return
            self._take(line)
        if not was_paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._later = asyncio.get_running_loop().call_later(_PAUSE_S, self._hand_on)

    def _cut(self) -> bytes | None:
        end = self._buffer.find(b"\n", 0, LINE_LIMIT) + 1
        if not end:
            if len(self._buffer) < LINE_LIMIT:
                return None
            end = LINE_LIMIT
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        return line

    def _rest(self) -> bytes:
        line = bytes(self._buffer)
        self._buffer.clear()
        return line
