"""What h11 takes and Tailrace refuses, each with its reason; docs/explanation/strictness.md shows the list.

A fuzzer that finds a message which h11 reads, Tailrace refuses and no row here explains has found a bug
in one of the three.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tailrace.wire.heads import HEAD_LIMIT, HEADER_COUNT_LIMIT, METHODS
from tests.kit.oracle import Answered, Asked, Decoded

_BLANK_LINE = re.compile(rb"\n\r?\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLD = re.compile(rb"\n[ \t]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CONTROL_IN_EXTENSION = re.compile(rb"(?:^|\n)[0-9A-Fa-f]+;[^\n]*?[\x00-\x08\x0b-\x1f\x7f][^\n]+\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_HTTP_URL = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_HOST = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")

Message = Asked | Answered


@dataclass(frozen=True, slots=True)
class Reason:
    """One kind of message that is refused on purpose: what it is, why, and how to tell it."""

    what: str
    why: str
    applies: Callable[[bytes, Message], bool]


def head_of(data: bytes) -> bytes:
    """The head of a message in h11's reading, which also ends at bare LFs."""
    end = _BLANK_LINE.search(data)
    return data[: end.end()] if end else data


def _lengths(head: bytes) -> list[bytes]:
    return [match[1].strip() for match in _LENGTH.finditer(head)]


def _has(message: Message, name: bytes) -> bool:
    return any(key == name for key, _ in message.headers)


def _authority_differs(_: bytes, message: Message) -> bool:
    if not isinstance(message, Asked):
        return False
    url, hosts = _HTTP_URL.match(message.target), message.all(b"host")
    return bool(url and hosts and url[1].lower() != hosts[0].lower())


def _is_other_target(_: bytes, message: Message) -> bool:
    target = message.target if isinstance(message, Asked) else b"/"
    return not target.startswith(b"/") and not _HTTP_URL.match(target)


BOTH: tuple[Reason, ...] = (
    Reason(
        "a line that ends in a bare LF",
        "RFC 9112 2.2 lets a reader take it; whoever does not sees another message",
        lambda head, _: bool(_BARE_LF.search(head)),
    ),
    Reason(
        "a folded line (obs-fold)",
        "RFC 9112 5.2: deprecated; some read a new header in the second line",
        lambda head, _: bool(_FOLD.search(head)),
    ),
    Reason(
        "a control byte in a value or reason",
        "RFC 9110 5.5 forbids it; terminals, logs and CGI-like interfaces act on it",
        lambda head, _: bool(_CONTROL.search(head)),
    ),
    Reason(
        "`Content-Length` beside `Transfer-Encoding`",
        "RFC 9112 6.1: the mark of request smuggling; h11 lets the coding win",
        lambda _, m: _has(m, b"transfer-encoding") and _has(m, b"content-length"),
    ),
    Reason(
        "`Content-Length` more than once, also with one value, also as a list",
        "RFC 9112 6.3 lets a reader fold equal ones; a proxy gains nothing from it",
        lambda head, _: len(_lengths(head)) > 1 or any(b"," in value for value in _lengths(head)),
    ),
    Reason(
        "`Content-Length` of more than 18 digits",
        "it overflows somebody's 64 bits",
        lambda head, _: any(len(value) > 18 for value in _lengths(head)),
    ),
    Reason(
        "`Transfer-Encoding` in HTTP/1.0",
        "RFC 9112 6.1: its framing is to be taken for faulty",
        lambda _, m: m.version == b"1.0" and _has(m, b"transfer-encoding"),
    ),
    Reason(
        "a version other than HTTP/1.0 and HTTP/1.1",
        "nothing else is spoken here; h11 takes any digits",
        lambda _, m: m.version not in (b"1.0", b"1.1"),
    ),
    Reason(
        f"more than {HEADER_COUNT_LIMIT} headers, or a head of more than {HEAD_LIMIT // 1024} KiB",
        "bounds; h11's own are set far off for the comparison",
        lambda head, _: len(head) > HEAD_LIMIT or head.count(b"\n") > HEADER_COUNT_LIMIT + 2,
    ),
)  # fmt: skip

REQUESTS: tuple[Reason, ...] = (
    *BOTH,
    Reason(
        "a method that is not served",
        "405: CONNECT and TRACE are not for a gateway, and methods are case-sensitive",
        lambda _, m: isinstance(m, Asked) and m.method not in METHODS,
    ),
    Reason(
        "a target that is neither a path nor an absolute http URL (`*`, `host:port`, `?x`)",
        "there is nothing such a target could name here",
        _is_other_target,
    ),
    Reason(
        "a target with a fragment",
        "RFC 9112 3.2: a fragment is never sent; some cut the path there, some do not",
        lambda _, m: isinstance(m, Asked) and b"#" in m.target,
    ),
    Reason(
        "an absolute target whose host is not the `Host` header's",
        "RFC 9112 3.2.2 lets the target win; what checked the header would be bypassed",
        _authority_differs,
    ),
    Reason(
        "a `Host` that is no host",
        "RFC 9112 3.2: 400",
        lambda _, m: isinstance(m, Asked) and any(not _HOST.fullmatch(host) for host in m.all(b"host")),
    ),
)  # fmt: skip

REPLIES: tuple[Reason, ...] = (
    *BOTH,
    Reason(
        "a status that is not 100 to 599",
        "RFC 9110 15: the first digit is the class, and there are five",
        lambda _, m: isinstance(m, Answered) and not 100 <= m.status <= 599,
    ),
)


@dataclass(frozen=True, slots=True)
class CodingReason:
    """One spelling of the chunked coding that is refused on purpose."""

    what: str
    why: str
    applies: Callable[[bytes], bool]


CODINGS: tuple[CodingReason, ...] = (
    CodingReason(
        "a bare LF, a folded line or a control byte in a trailer",
        "as in heads",
        lambda coded: bool(_BARE_LF.search(coded) or _FOLD.search(coded) or _CONTROL.search(coded)),
    ),
    CodingReason(
        "a size of more than 16 digits",
        "it overflows somebody's 64 bits",
        lambda coded: bool(re.search(rb"(?:^|\n)[0-9A-Fa-f]{17,}", coded)),
    ),
    CodingReason(
        "blanks behind a size",
        "RFC 9112 has none there; h11 takes them for the sake of old servers",
        lambda coded: bool(re.search(rb"(?:^|\n)[0-9A-Fa-f]+[ \t]+\r\n", coded)),
    ),
    CodingReason(
        "a control byte in an extension",
        "RFC 9112 7.1.1: tokens and quoted strings have none",
        lambda coded: bool(_CONTROL_IN_EXTENSION.search(coded)),
    ),
    CodingReason(
        "a size line or trailer of more than 256 bytes, or trailers of more than 8 KiB",
        "bounds on what is read and dropped",
        lambda coded: len(coded) > 8192 or any(len(line) > 256 for line in coded.split(b"\r\n")),
    ),
)  # fmt: skip

# The other direction: what Tailrace takes and h11 refuses.
TRAILER_NAMES = re.compile(rb"\n(?:content-length|transfer-encoding):", re.IGNORECASE)
TAKEN_THOUGH_REFUSED = (
    (
        "one empty line before a message",
        "RFC 9112 2.2: a server should skip it; it is not forwarded",
    ),
    (
        "`Content-Length` or `Transfer-Encoding` as a trailer",
        "h11 checks trailers like headers; Tailrace drops every trailer, so it says nothing to anybody",
    ),
)


def why_refused(reasons: tuple[Reason, ...], data: bytes, message: Message) -> list[str]:
    """The reasons that explain why a message which h11 reads is refused."""
    head = head_of(data)
    return [reason.what for reason in reasons if reason.applies(head, message)]


def why_violated(coded: bytes, read: Decoded) -> list[str]:
    """The reasons that explain why a chunked body which h11 reads is refused."""
    used = coded[: len(coded) - len(read.surplus)]
    return [reason.what for reason in CODINGS if reason.applies(used)]
