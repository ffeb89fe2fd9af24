"""Heads of requests as the greenlet server reads them.

Strict: where two readers of one connection disagree on where a request ends, a body can pose as the next
request. Whatever the edge would not write is refused here too.

Source: RFC 9112 (sections 3, 5, 6).
"""

from __future__ import annotations

import io
import re

# The edge limits heads to 64 KiB; only the edge talks to this socket.
MAX_HEAD_BYTES = 128 * 1024
_REQUEST = re.compile(r"([A-Z]+) ([!-~\x80-\xff]+) (HTTP/1\.[01])\r\n")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)\r\n")
_LENGTH = re.compile(r"[0-9]{1,18}")


def parse_request_line(line: str) -> tuple[str, str, str]:
    """Method, target and version.

    Raises:
        ValueError: it is no request line of HTTP/1.0 or HTTP/1.1.
    """
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise ValueError("not a request line")
    return match[1], match[2], match[3]


class Head:
    """A request's headers, with the little interface that gevent's handler asks of them.

    ``pairs`` has names in lower case and values without the blanks around them; all else of a value is
    the client's, as latin-1.

    Raises:
        ValueError: a line that is no header, a folded one, no end, or over MAX_HEAD_BYTES.
    """

    def __init__(self, rfile: io.BufferedReader) -> None:
        self.pairs: list[tuple[str, str]] = []
        left = MAX_HEAD_BYTES
        while (line := rfile.readline(left)) != b"\r\n":
            left -= len(line)
            match = _HEADER.fullmatch(line.decode("latin-1"))
            if match is None:
                raise ValueError("not a header line")
            # Not strip(): to a str NO-BREAK SPACE and NEXT LINE are blanks too, here they are half a letter.
            self.pairs.append((match[1].lower(), match[2].strip(" \t")))

    def get(self, name: str, default: str | None = None) -> str | None:
        wanted = name.lower()
        return next((value for key, value in self.pairs if key == wanted), default)

    getheader = get

    @property
    def typeheader(self) -> str | None:
        return self.get("content-type")

    def body_length(self) -> int | None:
        """Bytes of a sized body; None where it is chunked or there is none.

        Raises:
            ValueError: it cannot be told for certain where the body ends.
        """
        lengths = [value for name, value in self.pairs if name == "content-length"]
        codings = [value.lower() for name, value in self.pairs if name == "transfer-encoding"]
        if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
            raise ValueError("the end of the body is ambiguous")
        if not lengths:
            return None
        if not _LENGTH.fullmatch(lengths[0]):
            raise ValueError("Content-Length is not a number of bytes")
        return int(lengths[0])

    def keeps_alive(self, version: str) -> bool:
        """Whether the client may send another request on the connection."""
        values = ",".join(value for name, value in self.pairs if name == "connection").lower()
        tokens = {token.strip(" \t") for token in values.split(",")}
        return "close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens)
