"""What must hold for any bytes: one function per parser, given to hypothesis and to the long run alike.

Each takes one input, the whole reproducer, and raises AssertionError. Where it is cut follows from the
bytes themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import time
import zlib
from collections.abc import Iterator

from tailrace.wire.chunked import ChunkedDecoder, CodingViolated
from tailrace.wire.dialects import TELLING, Dialect, dialect_of_event, failure_frames, whole_events
from tailrace.wire.heads import (
    HeadReader,
    HeadRefused,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
)
from tailrace.wire.sse import EventTooLarge, SseDecoder
from tests.kit import explained, oracle
from tests.kit.oracle import Answered, Asked, Decoded, Heard

# CPU that one input of at most some 100 KB may cost: a pattern that backtracks needs far more.
SLOWEST_S = 0.25
# h11 takes quadratic time for such a run of blanks.
_TOO_MUCH_FOR_H11 = re.compile(rb"[ \t]{1000}")
_BLANKS_BEHIND_CODING = re.compile(rb"chunked[ \t]+\r\n", re.IGNORECASE)
REST = b"GET /rest HTTP/1.1\r\n"


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The bytes whole, one by one (when they are few), and in a few random pieces."""
    yield [data]
    if len(data) < 500:
        yield [data[i : i + 1] for i in range(len(data))]
    rng = random.Random(zlib.crc32(data))
    for count in (1, 2, 5):
        marks = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(count))})
        yield [data[a:b] for a, b in itertools.pairwise(marks)]


def _first_head(pieces: list[bytes]) -> tuple[bytes, bytes] | str | None:
    """What a reader cuts out of the pieces: a head and the rest, a refusal, or nothing yet."""
    reader = HeadReader()
    try:
        for at, piece in enumerate(pieces):
            found = reader.feed(piece)
            if found is not None:
                return found[0], found[1] + b"".join(pieces[at + 1 :])
    except HeadRefused:
        return "refused"
    return None


def _same_everywhere(data: bytes) -> tuple[bytes, bytes] | str | None:
    """What `_first_head` says of the whole, held against every other cut.

    A refusal may come from the reader or, once the head is whole, from the parser.
    """
    found = [_first_head(pieces) for pieces in cuts(data)]
    whole = found[0]
    heads = {one for one in found if isinstance(one, tuple)}
    assert len(heads) <= 1, f"cut in two ways: {heads}"
    if heads and any(not isinstance(one, tuple) for one in found):
        head = heads.pop()[0]
        assert b"\n" in head.replace(b"\r\n", b""), f"seen only in some cuts: {head!r}"
        return "refused" if _is_refused(head) else whole
    assert (None in found) == (found == [None] * len(found)), f"waits only in some cuts: {found}"
    return whole


def _is_refused(head: bytes) -> bool:
    for parse in (parse_request, parse_response):
        try:
            parse(head)
        except HeadRefused:
            continue
        return False
    return True


@contextlib.contextmanager
def _quickly() -> Iterator[None]:
    """Holds what is done inside to SLOWEST_S of CPU."""
    began = time.process_time()
    yield
    took_s = time.process_time() - began
    assert took_s < SLOWEST_S, f"takes {took_s:.2f} s"


# Requests.


def check_request(data: bytes) -> None:
    """Tailrace reads a request's head as h11 and llhttp do, or refuses it for a reason that is listed."""
    with _quickly():
        found = _same_everywhere(data)
        head: RequestHead | None = None
        if isinstance(found, tuple):
            with contextlib.suppress(HeadRefused):
                head = parse_request(found[0])
    if _TOO_MUCH_FOR_H11.search(data):
        return
    if head is not None and isinstance(found, tuple):
        _agree_on_request(found[0], head)
        return
    asked = oracle.h11_request(data.removeprefix(b"\r\n"))
    if not isinstance(asked, Asked):
        return
    assert found is not None, "h11 has a whole head, Tailrace waits"
    assert explained.why_refused(explained.REQUESTS, data.removeprefix(b"\r\n"), asked), (
        f"unexplained: {asked}"
    )


def _agree_on_request(raw: bytes, head: RequestHead) -> None:
    length = head.content_length
    asked = oracle.h11_request(raw + _probe(length, is_chunked=head.is_chunked) + REST)
    assert isinstance(asked, Asked), f"h11 does not read it: {asked}"
    assert asked.method == head.method
    assert asked.version == (b"1.1" if head.is_http11 else b"1.0")
    _agree_on_target(asked.target, head)
    assert _unframed(asked.headers) == _unframed(head.headers)
    _agree_on_framing(asked, length, is_chunked=head.is_chunked)
    tokens = {t.strip(b" \t").lower() for v in asked.all(b"connection") for t in v.split(b",")}
    assert tokens - {b""} == head.connection_tokens - {b""}
    assert asked.keeps_alive == head.keep_alive
    if _BLANKS_BEHIND_CODING.search(raw):
        return  # llhttp takes "chunked" with one blank behind it, not with two
    heard = oracle.llhttp_request(raw)
    assert isinstance(heard, Heard), f"llhttp does not read it: {heard}"
    assert (heard.first, heard.method) == (asked.target, head.method)
    assert list(heard.headers) == list(head.headers)


def _agree_on_target(target: bytes, head: RequestHead) -> None:
    assert head.target.startswith(b"/")
    if target.startswith(b"/"):
        assert target == head.target
        return
    before = target[: len(target) - len(head.target)]
    if not target.endswith(head.target):  # a URL without a path
        before, path = target.partition(b"?")[0], head.target.removeprefix(b"/")
        assert target == before + path
    assert (
        before.lower() in (b"http://" + head.host.lower(), b"https://" + head.host.lower()) or not head.host
    )


def _probe(length: int | None, *, is_chunked: bool) -> bytes:
    """A body that fits the framing; empty for a length too large to be tried."""
    if is_chunked:
        return b"3\r\nabc\r\n0\r\n\r\n"
    return b"x" * length if length and length <= 4096 else b""


def _agree_on_framing(read: Asked | Answered, length: int | None, *, is_chunked: bool) -> None:
    if length is not None and length > 4096:
        assert (b"content-length", length) in [(k, int(v)) for k, v in read.headers if v.isdigit()]
        return
    expected = b"abc" if is_chunked else b"x" * (length or 0)
    assert (read.body, read.rest) == (expected, REST), f"framed otherwise: {read.body!r}"


def _unframed(
    headers: list[tuple[bytes, bytes]] | tuple[tuple[bytes, bytes], ...],
) -> list[tuple[bytes, bytes]]:
    """Headers by lower-case name; h11 gives the coding in lower case."""
    lowered = ((name.lower(), value) for name, value in headers)
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in lowered]


# Responses.


def check_reply(data: bytes) -> None:
    """Tailrace reads a response's head as h11 and llhttp do, or refuses it for a reason that is listed."""
    with _quickly():
        found = _same_everywhere(data)
        head: ResponseHead | None = None
        if isinstance(found, tuple):
            with contextlib.suppress(HeadRefused):
                head = parse_response(found[0])
    if _TOO_MUCH_FOR_H11.search(data):
        return
    if head is not None and isinstance(found, tuple):
        _agree_on_reply(found[0], head)
        return
    answered = oracle.h11_reply(data.removeprefix(b"\r\n"))
    if not isinstance(answered, Answered):
        return
    assert found is not None, "h11 has a whole head, Tailrace waits"
    interim = oracle.h11_interim(data.removeprefix(b"\r\n"))
    reasons = explained.why_refused(explained.REPLIES, data.removeprefix(b"\r\n"), answered)
    assert reasons or interim, f"unexplained: {answered}"


def _agree_on_reply(raw: bytes, head: ResponseHead) -> None:
    if head.status == 101:
        return  # a switch of protocols has no framing; the edge decides about it
    heard = oracle.llhttp_reply(raw)
    assert isinstance(heard, Heard), f"llhttp does not read it: {heard}"
    assert heard.first == b"%d" % head.status
    assert list(heard.headers) == [(name.lower(), value) for name, value in head.headers]
    if head.status < 200:
        assert oracle.h11_interim(raw)
        return
    has_body = head.has_body(b"GET")
    is_sized = has_body and (head.is_chunked or head.content_length is not None)
    length = head.content_length if has_body else 0
    body = _probe(length, is_chunked=head.is_chunked and has_body)
    answered = oracle.h11_reply(raw + body + REST, is_over=not is_sized and has_body)
    assert isinstance(answered, Answered), f"h11 does not read it: {answered}"
    assert (answered.status, answered.reason) == (head.status, head.reason)
    assert _unframed(answered.headers) == _unframed(head.headers)
    if has_body and not is_sized:
        assert answered.body == REST
    else:
        _agree_on_framing(answered, length, is_chunked=head.is_chunked and has_body)


# The chunked coding.


def check_chunked(data: bytes) -> None:
    """The decoder reads what the specification and h11 read, however the bytes are cut."""
    read = oracle.dechunked(data)
    for pieces in cuts(data):
        ours = _decoded(pieces)
        if isinstance(read, str):
            assert ours is None or ours == "violated", f"taken: {ours}"
            assert _decoded([*pieces, b"\n" * 300]) == "violated", f"not refused ({read})"
        else:
            assert ours == read, f"{ours} is not {read}"
    theirs = oracle.h11_dechunked(data)
    if isinstance(read, Decoded) and not explained.TRAILER_NAMES.search(data):
        assert theirs == read, f"h11 reads {theirs}"
    elif isinstance(theirs, Decoded) and not isinstance(read, Decoded):
        assert explained.why_violated(data, theirs), f"unexplained: {theirs}"


def _decoded(pieces: list[bytes]) -> Decoded | str | None:
    decoder = ChunkedDecoder()
    body = b""
    for at, piece in enumerate(pieces):
        try:
            found = decoder.feed(piece)
        except CodingViolated:
            return "violated"
        body += found
        if decoder.is_whole:
            _may_be_forwarded(piece, found)
        if decoder.is_done:
            return Decoded(body, decoder.surplus + b"".join(pieces[at + 1 :]))
    return None


_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")


def _may_be_forwarded(piece: bytes, body: bytes) -> None:
    """A buffer that is called whole is nothing but data chunks, and they hold the body."""
    at, content = 0, b""
    while at < len(piece):
        size = _PLAIN_SIZE.match(piece, at)
        assert size is not None, f"called whole: {piece!r}"
        end = size.end() + int(size[1], 16)
        content += piece[size.end() : end]
        assert end > size.end(), "the last chunk was called data"
        assert piece[end : end + 2] == b"\r\n"
        at = end + 2
    assert content == body


# Event streams.


def check_events(data: bytes) -> None:
    """Events are a browser's, however cut; a frame of ours lands between events and nowhere else."""
    expected = oracle.browser_events(data)
    for pieces in cuts(data):
        decoder = SseDecoder(limit_bytes=1 << 20)
        try:
            found = [event for piece in pieces for event in decoder.feed(piece)]
        except EventTooLarge:
            assert len(data) > 1 << 20
            return
        assert [(e.data, e.event) for e in found] == [(e.data, e.event) for e in expected]
        assert all(ours.id in (None, theirs.last_id) for ours, theirs in zip(found, expected, strict=True))
    _check_places(data)
    dialect_of_event(data)


def _check_places(data: bytes) -> None:
    message = data.decode("latin-1")
    for dialect in Dialect:
        at = whole_events(dialect, data)
        assert 0 <= at <= len(data)
        if dialect not in TELLING:
            continue
        frames = failure_frames(dialect, "function_failed", message, "c" * 26)
        if dialect is Dialect.NDJSON:
            assert b"\n" not in data[at:]
            assert at == 0 or data[at - 1 : at] == b"\n"
            assert frames.count(b"\n") == 1
            assert json.loads(frames)["error"]["message"] == message
            continue
        before = oracle.browser_events(data[:at])
        after = oracle.browser_events(data[:at] + frames)
        assert after[: len(before)] == before, "a frame changed an event"
        told = after[len(before) :]
        assert len(told) == (2 if dialect is Dialect.NATIVE else 1), f"told {told}"
        assert message in json.dumps(json.loads(told[0].data), ensure_ascii=False) or _holds(
            told[0].data, message
        )
        _check_nothing_is_kept(data, at)


def _holds(text: str, message: str) -> bool:
    """Whether a JSON text carries a message, at any depth."""
    waiting: list[object] = [json.loads(text)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, str) and message in value:
            return True
    return False


def _check_nothing_is_kept(data: bytes, at: int) -> None:
    """With one kind of line end, everything up to the last empty line is given out."""
    if b"\r" not in data:
        ends = [match.end() for match in re.finditer(rb"(?:(?<=\n)|^)\n", data)]
    elif data.replace(b"\r\n", b"").isascii() and not re.search(rb"\r(?!\n)|(?<!\r)\n", data):
        ends = [match.end() for match in re.finditer(rb"(?:(?<=\n)|^)\r\n", data)]
    else:
        return
    late = [end for end in ends if end > max(at, 2)]
    assert not late, f"kept back: {data[at : late[-1]]!r}"
