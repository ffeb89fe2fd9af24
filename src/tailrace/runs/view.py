"""How the pieces of a run are written for one viewer: as they are, numbered, or in another form. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Literal

from tailrace.errors import InvalidRequest
from tailrace.runs.marks import End, Head
from tailrace.wire.dialects import TELLING, Dialect, failure_frames
from tailrace.wire.sse import EventTooLarge, ServerEvent, SseDecoder, encode_event

# `same`: as the function's own client has it.
Format = Literal["same", "sse", "ndjson", "raw"]
_FORMATS: dict[str, Format] = {"sse": "sse", "ndjson": "ndjson", "raw": "raw"}


def parse_format(text: str) -> Format:
    """The form that a query asks for.

    Raises:
        InvalidRequest: it is none.
    """
    if not text:
        return "same"
    found = _FORMATS.get(text)
    if found is not None:
        return found
    raise InvalidRequest(f"format={text[:40]} is none of sse, ndjson, raw")


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes one run's pieces in one form."""

    run: str
    head: Head
    form: Format

    @property
    def _dialect(self) -> Dialect | None:
        return Dialect(self.head.dialect) if self.head.dialect else None

    @property
    def is_numbered(self) -> bool:
        """Whether the events carry ``id:`` lines."""
        return self.form == "sse" or (self.form == "same" and self._dialect is Dialect.NATIVE)

    @property
    def is_events(self) -> bool:
        """Whether what is written is an event stream, so that comments may stand between its events."""
        return self.form == "sse" or (self.form == "same" and self.head.is_events)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The head's lines that describe the body."""
        if self.form == "ndjson":
            return [("content-type", "application/x-ndjson")]
        if self.form == "sse":
            return [("content-type", "text/event-stream"), ("cache-control", "no-cache")]
        return [(name.lower(), value) for name, value in self.head.headers]

    def piece(self, seq: int, piece: bytes) -> bytes:
        """One piece."""
        if self.form == "ndjson":
            return b"".join(_line({"id": f"{self.run}-{seq}", **told}) for told in _told(self.head, piece))
        if not self.is_numbered:
            return piece
        if not self.head.is_events:
            return encode_event(ServerEvent(piece.decode("utf-8", "replace"), id=f"{self.run}-{seq}"))
        return b"id: %b-%d\n%b" % (self.run.encode(), seq, piece)

    def end(self, end: End) -> bytes | None:
        """What stands after the last piece; None: nothing can tell it, so the connection is to be cut."""
        last = f"{self.run}-{end.events + 1}"
        if self.form == "ndjson":
            told = {"code": end.code, "message": end.message} if end.code else {}
            return _line({"end": "error" if end.code else "done", **told})
        if not end.code:
            return (
                b"event: end\ndata: {}\n\n"
                if self.form == "sse" and self._dialect is not Dialect.NATIVE
                else b""
            )
        dialect = Dialect.NATIVE if self.form == "sse" else self._dialect
        if self.form == "raw" or dialect not in TELLING:
            return None
        number = b"id: %b\n" % last.encode() if self.is_numbered and not end.is_passing else b""
        return number + failure_frames(dialect, end.code, end.message, self.run)

    def too_slow(self, seq: int) -> bytes | None:
        """What a viewer is told that does not keep up; None: it can only be cut."""
        rest = f"/run/{self.run}/stream?after={seq}"
        if self.form != "same":
            rest += f"&format={self.form}"
        message = f"this viewer takes less than the run says; go on at {rest}"
        if self.form == "ndjson":
            return _line({"end": "error", "code": "viewer_too_slow", "message": message})
        dialect = Dialect.NATIVE if self.form == "sse" else self._dialect
        if self.form == "raw" or dialect not in TELLING:
            return None
        return failure_frames(dialect, "viewer_too_slow", message, self.run)


def is_drained(after: int | None, end: End | None, writer_numbers_end: bool) -> bool:
    """Whether a viewer that has seen everything up to a number has seen the end too."""
    if after is None or end is None or end.is_passing:
        return False
    last = end.events + (1 if end.code and writer_numbers_end else 0)
    return after == last if end.is_partial else after >= last


def _told(head: Head, piece: bytes) -> list[dict[str, object]]:
    """A piece as values: the event in it, or its text, or its bytes."""
    if head.is_events:
        try:
            events = SseDecoder().feed(piece)
        except EventTooLarge:
            events = []
        return [{"event": event.event, "data": event.data} for event in events] or [{}]
    try:
        return [{"data": piece.decode("utf-8")}]
    except UnicodeDecodeError:
        return [{"base64": base64.b64encode(piece).decode()}]


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
