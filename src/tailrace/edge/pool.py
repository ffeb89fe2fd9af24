"""Connections from the edge to replicas and to the control plane, kept alive between calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from tailrace.edge.heads import Reply
from tailrace.edge.stream import Stream
from tailrace.provider.contract import Address
from tailrace.wire.chunked import ChunkedDecoder, CodingViolated
from tailrace.wire.heads import HeadReader, HeadRefused, ResponseHead, parse_response

# Idle connections kept per replica; a burst beyond it pays for its own connects.
IDLE_LIMIT = 256
# Interim answers (1xx) read and dropped before one answer.
INTERIM_LIMIT = 16
# A full listen backlog answers EAGAIN on a unix socket; the replica drains it within this time or is stuck.
CONNECT_TRIES = 50
CONNECT_RETRY_S = 0.02
# The extension of a chunk that a replica announces and never sends: its handler failed, it did not die.
FAULT_MARK = b";tailrace-fault"


class Caller(Protocol):
    """What a connection tells the call it carries. Each method may end the call."""

    def on_reply_whole(self, reply: Reply, body: bytes) -> None:
        """A whole answer at once: its head, and all of its sized body (empty where it has none)."""

    def on_reply(self, reply: Reply) -> Stream | None:
        """The head of an answer whose body follows: what takes it, or None where the call is over."""

    def on_reply_end(self, *, is_exact: bool) -> None:
        """The answer is complete; ``is_exact`` False: the replica said more than its length."""

    def on_upgraded(self, head: ResponseHead, first: bytes) -> None:
        """The function became a websocket; ``first`` bytes of it came with its head."""

    def on_upstream_lost(self, why: str, *, is_fault: bool) -> None:
        """The connection broke; ``is_fault``: the replica said before that its handler failed."""

    def on_upstream_full(self) -> None: ...

    def on_upstream_drained(self) -> None: ...


class Upstream:
    """One connection to a replica, an asyncio protocol. Carries one call at a time."""

    __slots__ = (
        "_caller", "_decoder", "_has_head", "_heads", "_interim", "_is_reading_to_end", "_last",
        "_last_reply", "_left", "_method", "_stream", "address", "on_lost", "transport",
    )  # fmt: skip

    def __init__(self, address: Address, on_lost: Callable[[Upstream], None]) -> None:
        self.address = address
        self.on_lost = on_lost
        self.transport: asyncio.Transport
        self._caller: Caller | None = None
        # The last head's bytes and what was made of them: a replica sends the same one again and again.
        self._last = b""
        self._last_reply: Reply | None = None
        self._heads = HeadReader()
        self._method = b""
        self._reset()

    def _reset(self) -> None:
        self._interim = 0
        self._has_head = False
        self._decoder: ChunkedDecoder | None = None
        # The body goes to its stream, not through the call: a chunk's path is a call shorter.
        self._stream: Stream | None = None
        self._left = 0
        self._is_reading_to_end = False

    def begin(self, caller: Caller, method: bytes) -> None:
        """Carry this call from now on. The caller writes its request to ``transport``."""
        self._caller = caller
        self._method = method

    def abort(self) -> None:
        """Leave the call and close at once: the replica sees its client go."""
        self._caller = None
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it

    def data_received(self, data: bytes) -> None:
        caller = self._caller
        if caller is None:  # a replica that speaks unasked is broken
            self.transport.abort()
        elif self._decoder is not None:
            self._read_chunks(caller, self._decoder, data)
        elif self._has_head:
            self._read_body(caller, data)
        elif (reply := self._last_reply) is not None and not self._heads.held and data.startswith(self._last):
            self._begin_body(caller, reply, data[len(self._last) :])
        else:
            self._read_head(caller, data)

    def _read_head(self, caller: Caller, data: bytes) -> None:
        try:
            while (found := self._heads.feed(data)) is not None:
                head, data = parse_response(found[0]), found[1]
                if head.status >= 200:
                    self._last, self._last_reply = found[0], Reply(head)
                    self._begin_body(caller, self._last_reply, data)
                    return
                if head.status == 101:
                    caller.on_upgraded(head, data)
                    return
                self._interim += 1
                if self._interim > INTERIM_LIMIT:
                    raise HeadRefused(502, f"more than {INTERIM_LIMIT} interim answers")
                if not data:
                    return
        except HeadRefused as refused:
            self._lose(refused.reason)

    def _begin_body(self, caller: Caller, reply: Reply, rest: bytes) -> None:
        head = reply.head
        self._has_head = True
        if not head.has_body(self._method) or (head.content_length == len(rest) and not head.is_chunked):
            is_exact = head.has_body(self._method) or not rest
            if not is_exact or not head.keep_alive:
                self.transport.abort()
            caller.on_reply_whole(reply, rest if is_exact else b"")
            return
        if head.is_chunked:
            self._decoder = ChunkedDecoder()
        elif head.content_length is None:
            self._is_reading_to_end = True
        else:
            self._left = head.content_length
        stream = caller.on_reply(reply)
        if self._caller is caller:
            self._stream = stream
            if rest:
                self._read_body(caller, rest)

    def _read_chunks(self, caller: Caller, decoder: ChunkedDecoder, data: bytes) -> None:
        try:
            body = decoder.feed(data)
        except CodingViolated as violated:
            self._lose(str(violated))
            return
        if body and (stream := self._stream) is not None:
            stream.send(body, data if decoder.is_whole else None)
        if decoder.is_done and self._caller is caller:
            self._end(caller, has_surplus=bool(decoder.surplus))

    def _read_body(self, caller: Caller, data: bytes) -> None:
        stream = self._stream
        assert stream is not None  # the call goes on, so its answer has begun
        if self._decoder is not None:
            self._read_chunks(caller, self._decoder, data)
        elif self._is_reading_to_end:
            stream.send(data, None)
        else:
            body = data if len(data) <= self._left else data[: self._left]
            self._left -= len(body)
            stream.send(body, None)
            if not self._left and self._caller is caller:
                self._end(caller, has_surplus=len(body) < len(data))

    def _end(self, caller: Caller, *, has_surplus: bool) -> None:
        """The response is complete. Bytes after it can belong to nobody: they end the connection."""
        assert self._last_reply is not None
        if has_surplus or not self._last_reply.head.keep_alive or self._is_reading_to_end:
            self._caller = None
            self.transport.abort()
        caller.on_reply_end(is_exact=not has_surplus)

    def leave(self) -> bool:
        """The call is over and its request fully sent; whether the connection can carry another."""
        self._caller = None
        self._reset()
        return not self.transport.is_closing()

    def _lose(self, why: str) -> None:
        caller, self._caller = self._caller, None
        self.transport.abort()
        if caller is not None:
            caller.on_upstream_lost(why, is_fault=False)

    def connection_lost(self, error: Exception | None) -> None:
        self.on_lost(self)
        caller, self._caller = self._caller, None
        if caller is None:
            return
        if self._is_reading_to_end and error is None:
            caller.on_reply_end(is_exact=True)
            return
        is_fault = self._decoder is not None and self._decoder.extension == FAULT_MARK
        why = "the replica closed the connection" if error is None else str(error)
        caller.on_upstream_lost(why, is_fault=is_fault)

    def eof_received(self) -> None:
        """The transport closes by itself."""

    def pause_writing(self) -> None:
        if self._caller is not None:
            self._caller.on_upstream_full()

    def resume_writing(self) -> None:
        if self._caller is not None:
            self._caller.on_upstream_drained()


class Pool:
    """Idle connections by address; the newest is used first, so that a lull lets the others go cold."""

    def __init__(self) -> None:
        self._idle: dict[Address, list[Upstream]] = {}
        self._open: set[Upstream] = set()

    def take(self, address: Address) -> Upstream | None:
        """An idle connection; None when one must be made."""
        idle = self._idle.get(address)
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                return upstream
        return None

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection whose call is over, or close it when it can carry no other."""
        if not upstream.leave():
            return
        idle = self._idle.setdefault(upstream.address, [])
        if len(idle) < IDLE_LIMIT:
            idle.append(upstream)
        else:
            upstream.transport.close()

    async def connect(self, address: Address) -> Upstream:
        """A new connection.

        Raises:
            OSError: the replica does not accept one.
        """
        loop = asyncio.get_running_loop()
        make = cast("Callable[[], asyncio.Protocol]", lambda: Upstream(address, self._lost))
        for tries_left in range(CONNECT_TRIES, -1, -1):
            try:
                if address.path:
                    _, made = await loop.create_unix_connection(make, address.path)
                else:
                    _, made = await loop.create_connection(make, address.host, address.port)
                break
            except BlockingIOError:
                if not tries_left:
                    raise
                await asyncio.sleep(CONNECT_RETRY_S)
        upstream = cast("Upstream", made)
        if upstream.transport.is_closing():  # lost before it was ours: `_lost` has run already
            raise ConnectionResetError("the replica closed the connection at once")
        self._open.add(upstream)
        return upstream

    def hand_over(self, upstream: Upstream) -> None:
        """Let go of a connection whose transport is somebody else's from now on."""
        self._open.discard(upstream)

    def _lost(self, upstream: Upstream) -> None:
        self._open.discard(upstream)
        idle = self._idle.get(upstream.address)
        if idle is None:
            return
        if upstream in idle:
            idle.remove(upstream)
        if not idle:
            del self._idle[upstream.address]

    def close(self) -> None:
        """Abort every connection."""
        for upstream in list(self._open):
            upstream.abort()
