"""An answer cut into the pieces that are recorded and numbered: its events, or what came. Pure.

The pieces put together are the answer's bytes, exactly. A message holds some pieces of one run in a row:

    H json            the answer's head
    D seq (length piece)...   pieces from this number on
    P seq offset length part  a part of one that is longer than a message
    E json            how it ended
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from tailrace.runs.marks import End, Head, read_end, read_head

# An event that is longer is cut, and what follows in its answer is no longer looked at.
EVENT_LIMIT = 1024 * 1024
# Half of NATS's default max_payload, which is 1 MiB.
MESSAGE_LIMIT = 512 * 1024
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\n\r\n|\r\r")
_LINE_END: Final = re.compile(rb"\n")
_NUMBER: Final = struct.Struct(">I")
_SEQ_LENGTH: Final = struct.Struct(">II")
_PART: Final = struct.Struct(">III")


class Splitter:
    """Cuts one answer into pieces: at the ends of events, of lines, or not at all.

    Attributes:
        is_intact: False once an event was longer than the limit: from there on pieces are no events.
    """

    __slots__ = ("_end", "_end_text", "_tail", "is_intact")

    def __init__(self, kind: str) -> None:
        """``kind``: ``events``, ``lines``, or anything else for bodies without a structure."""
        self._end: re.Pattern[bytes] | None = None
        self._end_text = b""
        if kind == "events":
            self._end, self._end_text = _EVENT_END, b"\n\n"
        elif kind == "lines":
            self._end, self._end_text = _LINE_END, b"\n"
        self._tail = b""
        self.is_intact = True

    def feed(self, body: bytes) -> list[bytes]:
        """The pieces that these bytes complete."""
        end = self._end
        if end is None:
            return [body] if body else []
        if not self._tail and body.endswith(self._end_text) and body.count(self._end_text) == 1:
            return [body]  # one event, whole: the common case
        data = self._tail + body
        found, at = [], 0
        # An end may have begun in the tail, never before its last three bytes.
        for match in end.finditer(data, max(0, len(self._tail) - 3)):
            found.append(data[at : match.end()])
            at = match.end()
        self._tail = data[at:]
        if len(self._tail) > EVENT_LIMIT:
            found.append(self.rest())
            self._end, self.is_intact = None, False
        return found

    def rest(self) -> bytes:
        """The beginning of a piece that did not end; it is given out once."""
        tail, self._tail = self._tail, b""
        return tail

    @property
    def held(self) -> int:
        """Bytes of a piece that has not ended."""
        return len(self._tail)


def pack_piece(seq: int, piece: bytes) -> bytes:
    """The message that holds this piece alone, which is no longer than MESSAGE_LIMIT."""
    return b"D%b%b" % (_SEQ_LENGTH.pack(seq, len(piece)), piece)


def pack_pieces(first_seq: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """As few messages as hold these pieces, none over MESSAGE_LIMIT by more than 16 bytes.

    What frames a piece counts too: beside one of a byte it is four times as much.
    """
    parts: list[bytes] = []
    size, start = 0, first_seq
    for seq, piece in zip(itertools.count(first_seq), pieces):
        if parts and size + _NUMBER.size + len(piece) > MESSAGE_LIMIT:
            yield b"".join((b"D", _NUMBER.pack(start), *parts))
            parts, size, start = [], 0, seq
        if len(piece) > MESSAGE_LIMIT:
            yield from _pack_long(seq, piece)
            start = seq + 1
            continue
        parts += (_NUMBER.pack(len(piece)), piece)
        size += _NUMBER.size + len(piece)
    if parts:
        yield b"".join((b"D", _NUMBER.pack(start), *parts))


def _pack_long(seq: int, piece: bytes) -> Iterator[bytes]:
    for offset in range(0, len(piece), MESSAGE_LIMIT):
        part = piece[offset : offset + MESSAGE_LIMIT]
        yield b"P" + _PART.pack(seq, offset, len(piece)) + part


class Unpacker:
    """Turns a run's messages, read in order, into head, pieces and end. Repeated messages change nothing."""

    def __init__(self, after: int = 0) -> None:
        self._begun = b""
        self.seq = after

    def feed(self, message: bytes) -> Head | End | list[bytes] | None:
        """What the message tells that was not known; None when pieces before it are missing.

        Raises:
            ValueError: it is no message of a run.
        """
        kind, rest = message[:1], message[1:]
        try:
            if kind == b"H":
                return read_head(message)
            if kind == b"E":
                return read_end(message)
            if kind == b"D":
                return self._pieces(rest)
            if kind == b"P":
                return self._part(rest)
        except (msgspec.MsgspecError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"not a message of a run: {error}") from None
        raise ValueError(f"not a message of a run: it begins with {kind!r}")

    def _pieces(self, data: bytes) -> list[bytes] | None:
        (seq,) = _NUMBER.unpack_from(data)
        if seq > self.seq + 1:
            return None
        found, at = [], 4
        while at < len(data):
            (length,) = _NUMBER.unpack_from(data, at)
            at += 4 + length
            if at > len(data):
                raise ValueError("not a message of a run: a piece is cut")
            if seq == self.seq + 1:
                found.append(data[at - length : at])
                self.seq = seq
            seq += 1
        return found

    def _part(self, data: bytes) -> list[bytes] | None:
        seq, offset, length = _PART.unpack_from(data)
        if seq <= self.seq:
            return []
        if not offset:
            self._begun = b""
        if seq > self.seq + 1 or offset > len(self._begun):
            return None
        if offset == len(self._begun):
            self._begun += data[_PART.size :]
        if len(self._begun) < length:
            return []
        self.seq, piece, self._begun = seq, self._begun, b""
        return [piece]
