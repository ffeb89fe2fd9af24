"""Server-sent events as values: an incremental decoder and the encoder that undoes it. No I/O.

Source: WHATWG HTML, section 9.2 (event stream interpretation).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# One event's fields together. Far above any token or JSON chunk, far below what would hurt a process.
EVENT_LIMIT_BYTES = 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")
_TEXT_LINE_END = re.compile(r"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """An event (or a line of one) is larger than the decoder's limit; the stream cannot be read on."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. ``id`` and ``retry`` (milliseconds) are None when the event's own block has no such line."""

    data: str = ""
    event: str = "message"
    id: str | None = None
    retry: int | None = None


class SseDecoder:
    """Turns the bytes of one event stream, cut anywhere, into its events.

    An event is given out as soon as the blank line that ends it has begun: a CR at the end of a chunk
    counts, and the LF that may follow it is dropped later. What is unfinished when the stream ends is no
    event (WHATWG), so there is nothing to flush.

    Args:
        limit_bytes: Largest event, all its lines together.
    """

    def __init__(self, *, limit_bytes: int = EVENT_LIMIT_BYTES) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._limit = limit_bytes
        self._rest = bytearray()  # a line that has not ended
        self._at_start = True
        self._skip_lf = False
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None
        self._retry: int | None = None
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether bytes of an event that has not ended yet were seen."""
        return bool(self._rest) or self._size > 0

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that these bytes complete, in order.

        Raises:
            EventTooLarge: one event has more than the limit's bytes; the decoder is of no use afterwards.
        """
        data = self._begin(data)
        if not data:
            return []
        end, *lines = _LINE_END.split(data)
        self._rest += end
        if lines:
            lines.insert(0, bytes(self._rest))
            self._rest = bytearray(lines.pop())
        self._skip_lf = data.endswith(b"\r")
        events = [event for line in lines if (event := self._take_line(line)) is not None]
        if self._size + len(self._rest) > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")
        return events

    def _begin(self, data: bytes) -> bytes:
        """Drop the byte order mark, and the LF of a CRLF that was cut in two; keep what is undecided."""
        if self._at_start and data:
            data = bytes(self._rest) + data
            self._rest.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest += data
                return b""
            self._at_start = False
            data = data.removeprefix(_BOM)
        if self._skip_lf and data:
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        return data

    def _take_line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        self._size += len(line)
        if self._size > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")
        name, _, value = line.decode("utf-8", "replace").partition(":")
        self._take_field(name, value.removeprefix(" "))
        return None

    def _take_field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = self.last_event_id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= 15:
            self._retry = self.retry_ms = int(value)

    def _dispatch(self) -> ServerEvent | None:
        found = None
        if self._data:
            found = ServerEvent("\n".join(self._data), self._event or "message", self._id, self._retry)
        self._data, self._size = [], 0
        self._event, self._id, self._retry = "", None, None
        return found


def encode_event(event: ServerEvent) -> bytes:
    """The event's block, blank line included. Any text is safe as data, also newlines and leading spaces.

    A CR or CRLF inside data arrives as LF: the format has no way to carry it.

    Raises:
        ValueError: the event's name or id has a line end, or the id a NUL, which would change its meaning.
    """
    lines = []
    if event.event != "message":
        lines.append(f"event: {_one_line('event', event.event)}")
    if event.id is not None:
        lines.append(f"id: {_one_line('id', event.id)}")
    if event.retry is not None:
        lines.append(f"retry: {event.retry}")
    lines += [f"data: {line}" for line in _TEXT_LINE_END.split(event.data)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def _one_line(field: str, value: str) -> str:
    if any(c in value for c in "\r\n\0"):
        raise ValueError(f"an event's {field} cannot hold a line end or NUL: {value!r}")
    return value
