"""The chunked transfer coding, decoded strictly and incrementally. No I/O.

Ours because both directions need three things a streaming parser hides: where a body ends inside a
buffer, whether a buffer is whole chunks that may be forwarded as it stands, and limits on everything
that is not body. See docs/decisions/0003.
"""

from __future__ import annotations

import re
from typing import Final

# Sixteen hex digits hold 64 bits; more is an attack on a parser that overflows.
# No blanks before an extension: the grammar calls them bad, llhttp and h11 refuse them, nobody sends them.
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]*)?)")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
# Extensions and trailers are read and dropped (RFC 9112 7.1.1, RFC 9110 6.5.1): these bound the reading.
_LINE_LIMIT: Final = 256
_TRAILER_LIMIT: Final = 8192

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
_DONE: Final = 4


def _size_lines(longest: int) -> list[bytes]:
    """By the length of a buffer that is one whole chunk: how it begins; empty where no chunk is so long."""
    lines = [b""] * (longest + 8)
    for size in range(1, longest + 1):
        line = b"%x\r\n" % size
        lines[len(line) + size + 2] = line
    return lines


# A look is a third of reading a size line.
_SIZE_LINES: Final = _size_lines(4095)
_LENGTHS: Final = len(_SIZE_LINES)


class CodingViolated(Exception):
    """The bytes are not the chunked coding; nothing after them on the connection can be trusted."""


class ChunkedDecoder:
    """Decodes one chunked body.

    After each ``feed``: ``is_done`` tells the body has ended, ``surplus`` holds what came after its end,
    and ``is_whole`` tells that the fed buffer was exactly one or more complete data chunks without
    extensions, so that it may be passed on byte for byte. ``extension`` is that of the last chunk begun.

    Source: RFC 9112 section 7.1.
    """

    __slots__ = (
        "_left",
        "_pending",
        "_state",
        "_trailer_bytes",
        "extension",
        "is_done",
        "is_whole",
        "surplus",
    )

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._pending = b""
        self._trailer_bytes = 0
        self.is_done = False
        self.is_whole = False
        self.extension = b""
        self.surplus = b""

    def feed(self, data: bytes) -> bytes:
        """The body bytes in data.

        Raises:
            CodingViolated: the coding is violated; the connection can not be read any further.
        """
        if self._state == _SIZE and not self._pending:
            # The common case of a stream: the buffer is one chunk, whole.
            length = len(data)
            line = _SIZE_LINES[length] if length < _LENGTHS else b""
            if line and data.startswith(line) and data.endswith(b"\r\n"):
                self.is_whole = True
                return data[len(line) : -2]
        return self._feed_slowly(data)

    def _feed_slowly(self, data: bytes) -> bytes:
        starts_whole = self._state == _SIZE and not self._pending
        plain = True
        body: list[bytes] = []
        at, end = 0, len(data)
        if self._pending:
            data = self._pending + data
            self._pending, end = b"", len(data)
        while at < end:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                body.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                continue
            if self._state == _DONE:
                self.surplus = data[at:]
                break
            line_end = self._line_end(data, at)
            if line_end < 0:
                self._pending = data[at:]
                break
            plain &= self._line(data[at:line_end])
            at = line_end + 2
        self.is_done = self._state == _DONE
        self.is_whole = starts_whole and plain and self._state == _SIZE and not self._pending and bool(body)
        return body[0] if len(body) == 1 else b"".join(body)

    def _line_end(self, data: bytes, at: int) -> int:
        """Index of the CRLF that ends the line at ``at``; -1 when it has not come yet."""
        found = data.find(b"\n", at, at + _LINE_LIMIT + 2)
        if found < 0:
            # The CR of a line as long as it may be can have come alone.
            if len(data) - at > _LINE_LIMIT + data.endswith(b"\r"):
                raise CodingViolated(f"a chunk's size line or trailer is longer than {_LINE_LIMIT} bytes")
            return -1
        if found == at or data[found - 1] != 0x0D:
            raise CodingViolated("a line of the chunked coding ends in a bare LF; expected CRLF")
        return found - 1

    def _line(self, line: bytes) -> bool:
        """Take one line; whether it is of a shape that may be forwarded as it stands."""
        if self._state == _SIZE:
            self._left, plain = self._size(line)
            self._state = _DATA if self._left else _TRAILERS
            return plain
        if self._state == _DATA_END:
            if line:
                raise CodingViolated("a chunk is longer than its size says; expected CRLF after its data")
            self._state = _SIZE
            return True
        if not line:
            self._state = _DONE
            return False
        self._trailer_bytes += len(line)
        if self._trailer_bytes > _TRAILER_LIMIT or not _TRAILER.fullmatch(line):
            raise CodingViolated("the trailers after a chunked body are malformed or too long")
        return False

    def _size(self, line: bytes) -> tuple[int, bool]:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise CodingViolated("a chunk size is not a hexadecimal number")
        self.extension = match[2]
        size = int(match[1], 16)
        return size, not self.extension
