"""A real edge between a client and a replica that are both strict and write everything down.

`EdgeTap.check_conversation` sends hostile bytes as a client, `EdgeTap.check_answer` as a replica. What
passes the edge is held against what h11 reads in the bytes that went in. Both raise AssertionError.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from tests.kit import explained, oracle
from tests.kit.edge import EdgeUnderTest, edge_before
from tests.kit.hostile import CONTROL, Outcome, Passed
from tests.kit.oracle import Answered, Asked
from tests.kit.replies import Got

# Far above what anything here takes; an edge that is silent for so long hangs.
DEADLINE_S = 5.0
_HTTP_URL = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
# What the edge makes anew, so that it is not compared with what the client sent.
_OURS = frozenset(
    (
        b"connection", b"proxy-connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length", b"expect", b"host",
        b"x-call-id", b"x-client-call-id", b"x-start-time", b"x-forwarded-for", b"x-forwarded-host",
        b"x-forwarded-proto",
    )
)  # fmt: skip
# Where a failure is told inside a body.
_TOLD = re.compile(rb'event: error\ndata: \{"code"|data: \{"error"|\{"error":\{"code"')
_TOO_MUCH_FOR_H11 = re.compile(rb"[ \t]{1000}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a client said in its bytes, by h11: its requests, and how it went on after them."""

    requests: tuple[Asked, ...]
    tail: str


def said_in(data: bytes, *, skips_empty_line: bool = True) -> Said:
    """The requests that h11 reads in a connection's bytes; the last may be incomplete.

    Args:
        skips_empty_line: Take one empty line before each, as RFC 9112 2.2 asks for and h11 does not.
    """
    found: list[Asked] = []
    while True:
        data = data.removeprefix(b"\r\n") if skips_empty_line else data
        if not data:
            return Said(tuple(found), "clean")
        asked = oracle.h11_request(data)
        if not isinstance(asked, Asked):
            return Said(tuple(found), "refused" if asked else "more")
        found.append(asked)
        if asked.body is None:
            return Said(tuple(found), "bad body" if asked.has_bad_body else "more body")
        if not asked.keeps_alive:
            return Said(tuple(found), "closed")
        data = asked.rest


def cut(data: bytes) -> list[bytes]:
    """The bytes in one to some twenty pieces, always the same ones."""
    rng = random.Random(zlib.crc32(data))
    count = rng.choice((0, 1, 2, 3, 20))
    marks = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(count))})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def _label_and_rest(target: bytes) -> tuple[bytes, bytes] | None:
    """The function and what it sees, as the documentation says it: a literal prefix, nothing decoded."""
    if not target.startswith(b"/"):
        target = _HTTP_URL.sub(b"", target, count=1)
    if not target.startswith(b"/function/"):
        return None
    path, mark, query = target.removeprefix(b"/function/").partition(b"?")
    label, _, rest = path.partition(b"/")
    return label, b"/" + rest + mark + query


@dataclass
class EdgeTap:
    """One running edge with its replica. Use it from one task at a time."""

    edge: EdgeUnderTest
    faults: list[str]
    requests: list[Asked | str] = field(default_factory=list)
    answer: list[bytes] | None = None
    is_closing: bool = False
    connections: int = 0
    _fence: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The replica: reads strictly, writes down, and answers what it was told to, or an echo."""
        self.connections += 1
        held = b""
        while data := await reader.read(65536):
            held += data
            while held and not isinstance(asked := oracle.h11_request(held), str | None):
                if asked.body is None:
                    break
                self.requests.append(asked)
                held = asked.rest
                if self.answer is not None:
                    for piece in self.answer:
                        writer.write(piece)
                        await asyncio.sleep(0)
                    if self.is_closing:
                        return
                else:
                    writer.write(_echo(len(self.requests), asked))
            if held and isinstance(asked := oracle.h11_request(held), str):
                self.requests.append(asked)
                return

    async def fence(self) -> None:
        """Let the edge do what it has to do: a round trip through it on another connection."""
        if self._fence is None:
            self._fence = await self.edge.connect()
        reader, writer = self._fence
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            await reader.readuntil(b"control")

    async def close(self) -> None:
        """Let go of the fence's connection."""
        if self._fence is not None:
            self._fence[1].close()
            self._fence = None

    # A hostile client.

    async def check_conversation(self, data: bytes) -> None:
        """What reaches the replica is what h11 reads in these bytes of a client, request by request."""
        self.requests, self.answer = [], None
        is_known = not _TOO_MUCH_FOR_H11.search(data)
        said = said_in(data) if is_known else Said((), "unknown")
        got = await self._converse(data, said)
        await self.fence()
        self._has_no_fault()
        if is_known:
            _compare(said, got, list(self.requests))

    async def outcome(self, data: bytes, pieces: list[bytes] | None = None) -> tuple[Outcome, ...]:
        """What the edge does with a client's bytes, in order: refusals, and requests as passed on.

        Args:
            pieces: The same bytes as they are to be written, a round trip apart; None: cut somewhere.
        """
        self.requests, self.answer = [], None
        said = Said((), "more") if _TOO_MUCH_FOR_H11.search(data) else said_in(data)
        got = await self._converse(data, said, pieces)
        await self.fence()
        self._has_no_fault()
        seen, found = list(self.requests), list[Outcome]()
        for answered in got:
            if any(name == b"x-number" for name, _ in answered.headers):
                taken = seen.pop(0)
                assert isinstance(taken, Asked)
                found.append(Passed(taken.method, taken.target, taken.body or b"", own_headers(taken)))
            else:
                found.append(CONTROL if answered.body == b"control" else answered.status)
        assert not seen, f"passed on without an answer: {seen}"
        return tuple(found)

    async def _converse(self, data: bytes, said: Said, pieces: list[bytes] | None = None) -> list[Answered]:
        whole = sum(asked.body is not None for asked in said.requests)
        reader, writer = await self.edge.connect()
        try:
            async with asyncio.timeout(DEADLINE_S):
                with contextlib.suppress(RuntimeError):  # the edge may have closed already
                    for piece in pieces or cut(data):
                        writer.write(piece)
                        await (self.fence() if pieces else asyncio.sleep(0))
                raw, is_over = b"", False
                while not is_over and len(_answers(raw, said)) < whole:
                    piece = await _read(reader)
                    raw, is_over = raw + piece, not piece
                await self.fence()
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                while piece := await _read(reader):
                    raw += piece
        except TimeoutError:
            raise AssertionError(f"the edge hangs: {len(_answers(raw, said))} of {whole} answered") from None
        finally:
            writer.transport.abort()
        return _answers(raw, said)

    def _has_no_fault(self) -> None:
        assert not self.faults, self.faults
        in_flight = [replica.in_flight for replica in self.edge.function.ready]
        assert in_flight == [0], f"a place leaked: {in_flight}"
        assert len(self.edge.edge.clients) <= 1, "a client's connection is left"

    # A hostile replica.

    async def check_answer(self, data: bytes) -> None:
        """A client gets the replica's answer as h11 reads it, a refusal of ours, or sees it broken."""
        pick = random.Random(zlib.crc32(data) + 1)
        method = pick.choice((b"GET", b"GET", b"GET", b"HEAD"))
        version = pick.choice((b"1.1", b"1.1", b"1.0"))
        is_known = not _TOO_MUCH_FOR_H11.search(data)
        whole = oracle.h11_reply(data.removeprefix(b"\r\n"), method, is_over=True) if is_known else None
        is_broken = not isinstance(whole, Answered) or whole.body is None
        self.requests, self.answer = [], cut(data)
        self.is_closing = is_broken or not _has_own_end(whole, method) or pick.random() < 0.5
        request = b"%b /function/fn HTTP/%b\r\nHost: a\r\nConnection: close\r\n\r\n" % (method, version)
        # The second time the replica's connection, when it stays, has seen the same head before.
        for at in range(1 if self.is_closing else 2):
            before = self.connections
            raw, is_clean = await self._ask(request)
            await self.fence()
            self._has_no_fault()
            if is_known:
                _compare_answer(data, whole, oracle.h11_reply(raw, method, is_over=is_clean), raw)
            if at and isinstance(whole, Answered) and whole.rest:
                assert self.connections > before, "a connection was used again that had said too much"

    async def reply(self, data: bytes) -> Got:
        """What a client gets when the replica answers so and closes."""
        self.requests, self.answer, self.is_closing = [], [data], True
        raw, is_clean = await self._ask(b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await self.fence()
        self._has_no_fault()
        return got(raw, is_clean=is_clean)

    async def _ask(self, request: bytes) -> tuple[bytes, bool]:
        reader, writer = await self.edge.connect()
        raw = b""
        try:
            async with asyncio.timeout(DEADLINE_S):
                writer.write(request)
                while piece := await reader.read(65536):
                    raw += piece
        except ConnectionResetError:
            return raw, False
        except TimeoutError:
            raise AssertionError("the edge hangs") from None
        finally:
            writer.transport.abort()
        return raw, True


def got(raw: bytes, *, is_clean: bool) -> Got:
    """What a client makes of the bytes it got: of a refusal of ours only the status is told."""
    whole = oracle.h11_reply(raw, is_over=is_clean)
    assert isinstance(whole, Answered), f"no answer: {raw[:200]!r}"
    if whole.status >= 400 and any(name == b"x-openfaas-internal" for name, _ in whole.headers):
        return Got(whole.status, b"")
    if whole.body is None:
        return Got(whole.status, oracle.h11_part(raw), is_whole=False)
    told = _TOLD.search(whole.body)
    if told is not None:
        return Got(whole.status, whole.body[: told.start()], is_told=True)
    return Got(whole.status, whole.body)


def _echo(number: int, asked: Asked) -> bytes:
    """An answer that names its request; sized and chunked ones in turn."""
    body = b"%b %b" % (asked.method, asked.target)
    if asked.method == b"HEAD":
        return b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: %d\r\n\r\n" % (number, len(body))
    if number % 2:
        return b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)
    head = b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % number
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def own_headers(asked: Asked) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a request that are neither the platform's nor about framing."""
    return tuple((name, value) for name, value in asked.headers if name not in _OURS)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:
        return b""


def _answers(raw: bytes, said: Said) -> list[Answered]:
    """The complete answers in what a client got, each read as one to the request it belongs to."""
    found: list[Answered] = []
    if said.tail == "unknown":
        return found
    methods = [asked.method for asked in said.requests]
    while raw:
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        answered = oracle.h11_reply(raw, method)
        if method == b"HEAD" and isinstance(answered, Answered) and not _is_of_a_call(answered):
            answered = oracle.h11_reply(raw)  # a request that could not be read has no method
        assert not isinstance(answered, str), f"a malformed answer: {answered}"
        if answered is None or answered.body is None:
            break
        found.append(answered)
        raw = answered.rest
    return found


def _is_of_a_call(answered: Answered) -> bool:
    names = [name for name, _ in answered.headers]
    return answered.status < 400 or b"x-call-id" in names or b"x-openfaas-internal" not in names


def _compare(said: Said, got: list[Answered], seen: list[Asked | str]) -> None:
    """Every request that reached the replica is the client's, in its order, and answered to it."""
    left = list(seen)
    assert len(left) <= len(said.requests), "more requests at the replica than the client sent"
    for at, asked in enumerate(said.requests):
        answered = got[at] if at < len(got) else None
        is_forwarded = answered is not None and any(name == b"x-number" for name, _ in answered.headers)
        if answered is None and left:
            # Answers are lost when the edge closes while the client still writes: match by what it asked.
            is_forwarded = isinstance(left[0], Asked) and _route_of(asked) == _line_of(left[0])
        if is_forwarded:
            assert left, "an answer without a request"
            taken = left.pop(0)
            _is_the_same(asked, taken)
            assert isinstance(taken, Asked)
            if answered is not None and asked.method != b"HEAD":
                assert answered.body == b"%b %b" % (taken.method, taken.target), (
                    "an answer to another request"
                )
    assert not left, f"nobody sent {left}"
    extra = got[len(said.requests) :]
    assert all(answered.status >= 400 for answered in extra), "an answer to nothing"


def _line_of(taken: Asked) -> tuple[bytes, bytes]:
    return taken.method, taken.target


def _route_of(asked: Asked) -> tuple[bytes, bytes]:
    found = _label_and_rest(asked.target)
    return asked.method, found[1] if found else b""


def _is_the_same(asked: Asked, taken: Asked | str) -> None:
    assert isinstance(taken, Asked), f"the replica got what h11 refuses: {taken}"
    assert asked.body is not None or not asked.has_bad_body, (
        "a request with a broken body was forwarded whole"
    )
    route = _label_and_rest(asked.target)
    assert route is not None, "forwarded what is not a function's"
    assert (taken.method, taken.target, taken.body) == (asked.method, route[1], asked.body)
    assert route[0] in (b"fn", b"fn.openfaas-fn")
    named = {t.strip().lower() for v in asked.all(b"connection") for t in v.split(b",")}
    sent = [(k, v) for k, v in asked.headers if k not in _OURS and k not in named and b"_" not in k]
    assert sorted(sent) == sorted(own_headers(taken))
    for name in (b"connection", b"te", b"trailer", b"upgrade", b"expect", b"keep-alive", b"proxy-connection"):
        assert not taken.all(name), f"{name!r} was passed on"
    assert len(taken.all(b"host")) <= 1
    assert len(taken.all(b"x-call-id")) == 1
    assert len(taken.all(b"content-length")) + len(taken.all(b"transfer-encoding")) <= 1


def _has_own_end(answered: Answered | str | None, method: bytes) -> bool:
    """Whether an answer tells by itself where it ends."""
    if not isinstance(answered, Answered):
        return False
    names = [name for name, _ in answered.headers]
    is_bodiless = method == b"HEAD" or answered.status in (204, 304)
    return is_bodiless or b"content-length" in names or b"transfer-encoding" in names


def _compare_answer(
    data: bytes, whole: Answered | str | None, got: Answered | str | None, raw: bytes
) -> None:
    assert not isinstance(got, str), f"the client got a malformed answer: {got}, {raw[:200]!r}"
    if got is None:
        assert not isinstance(whole, Answered) or not raw, "half a head"
        raise AssertionError(f"the client got nothing: {raw[:200]!r}")
    is_ours = any(name == b"x-openfaas-internal" for name, _ in got.headers)
    if isinstance(whole, Answered) and whole.body is not None:
        if is_ours or got.body is None:
            coding = [reason.what for reason in explained.CODINGS if reason.applies(data)]
            reasons = explained.why_refused(explained.REPLIES, data, whole)
            assert coding or reasons or b"HTTP/1.1 1" in data, f"unexplained: {got.status}, {got.body!r}"
            return
        assert (got.status, got.body) == (whole.status, whole.body)
        return
    if got.body is None or is_ours:
        return
    assert b'"function_failed"' in got.body or b'"replica_failed"' in got.body, f"a clean end: {got.body!r}"


@contextlib.contextmanager
def loop_faults() -> Iterator[list[str]]:
    """Whatever the running loop has to complain about until the context is left."""
    faults: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(repr(context)))
    try:
        yield faults
    finally:
        loop.set_exception_handler(None)


@contextlib.asynccontextmanager
async def edge_tap(faults: list[str]) -> AsyncIterator[EdgeTap]:
    """A running tap. What is put into ``faults`` fails its checks."""
    taps: list[EdgeTap] = []

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taps[0].serve(reader, writer)

    async with edge_before(replica) as under_test:
        taps.append(EdgeTap(under_test, faults))
        try:
            yield taps[0]
        finally:
            await taps[0].close()
            under_test.stop_replicas()
