"""How an answer begins and how its run ended, as its viewers are told. Pure.

Not compiled with the pieces they stand around: msgspec reads and writes them by their annotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's head as it is kept: status, the function's own headers, dialect (empty: not known)."""

    status: int
    headers: list[tuple[str, str]]
    dialect: str = ""

    @property
    def is_events(self) -> bool:
        """Whether the body is an event stream."""
        kind = next((v for k, v in self.headers if k.lower() == "content-type"), "")
        coded = any(k.lower() == "content-encoding" for k, _ in self.headers)
        return kind.lower().startswith("text/event-stream") and not coded

    @property
    def piece_kind(self) -> str:
        """What a `Splitter` is told."""
        if self.is_events:
            return "events"
        return "lines" if self.dialect == "ndjson" else "bytes"


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, as its viewers are told. ``code`` is empty after a clean end.

    ``events`` is how many pieces there are; ``is_partial``: there are, or were, more than can be read.
    ``is_passing``: it was not the run that ended but its reading; this end is in no record and has no number.
    """

    events: int
    code: str = ""
    message: str = ""
    is_partial: bool = False
    is_passing: bool = False


def pack_head(head: Head) -> bytes:
    """The message that tells a head."""
    return b"H" + msgspec.json.encode(head)


def pack_end(end: End) -> bytes:
    """The message that tells the end."""
    return b"E" + msgspec.json.encode(end)


def read_head(message: bytes) -> Head:
    """What a message of `pack_head` tells.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.json.decode(message[1:], type=Head)


def read_end(message: bytes) -> End:
    """What a message of `pack_end` tells.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.json.decode(message[1:], type=End)
