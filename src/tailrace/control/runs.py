"""``/run/<id>`` and ``/runs``: look a run up, watch it, stop it, list them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from tailrace.control.parts import json_reply, parts
from tailrace.control.serve import Cut
from tailrace.errors import InvalidRequest, NotFound
from tailrace.names import parse_function_name
from tailrace.runs.ids import is_run_id, parse_event_id, parse_seq
from tailrace.runs.keeper import RECORD_S, SOON_S, Runs
from tailrace.runs.log import Log
from tailrace.runs.marks import Head
from tailrace.runs.record import STATES, Record
from tailrace.runs.view import Format, Writer, is_drained, parse_format
from tailrace.wire.dialects import heartbeat

LIST_LIMIT = 500
# What one write to a viewer may hold. A long history goes out in steps, with a turn of the loop between them:
# so a viewer that takes nothing is noticed before more than a step is on its way to it.
WRITE_BYTES = 16 * 1024
# What of `stall_timeout_s`, after which its connection is cut, one write may wait for a viewer.
SLOW = 1 / 3


def _runs(request: Request) -> Runs:
    runs = parts(request).runs
    if runs is None:
        raise NotFound("this gateway keeps no runs", hint="Start it without --nats-url off.")
    return runs


async def get(request: Request) -> Response:
    """A run's record."""
    record = await _runs(request).find(_id(request))
    return json_reply(record.shown(), headers={"cache-control": "no-store"})


async def stop(request: Request) -> Response:
    """End a run; its record, as final as it is. A second time it answers the same."""
    record = await _runs(request).stop(_id(request))
    return json_reply(record.shown())


def _id(request: Request) -> str:
    run: str = request.path_params["id"]
    if not is_run_id(run):
        raise NotFound(f"'{run[:40]}' is no run's id")
    return run


async def get_all(request: Request) -> Response:
    """Runs, the one that changed last first: ``function``, ``state``, ``limit``, ``cursor``."""
    query = request.query_params
    wanted = query.get("function", "")
    name = parse_function_name(wanted) if wanted else None
    if wanted and name is None:
        raise InvalidRequest(f"function={wanted[:80]} is not a function's name")
    state = query.get("state", "")
    if state and state not in STATES:
        raise InvalidRequest(f"state={state[:40]} is none of {', '.join(STATES)}")
    limit = parse_seq(query.get("limit", "50"))
    before = parse_seq(query.get("cursor", "0"))
    if limit is None or not 1 <= limit <= LIST_LIMIT or before is None:
        raise InvalidRequest(f"limit is a whole number from 1 to {LIST_LIMIT}, cursor as an answer gave it")
    found: list[dict[str, object]] = []
    cursor, is_more = before or None, True
    runs = _runs(request)
    while is_more and len(found) < limit:
        page, rest = await runs.store.list_records(cursor, limit)
        for number, (place, record) in enumerate(page, 1):
            now = runs.newer(record)
            if _is_wanted(now, str(name) if name else "", state):
                found.append(now.shown())
            if len(found) == limit:
                rest = place if number < len(page) else rest
                break
        cursor, is_more = rest, rest is not None
        if not page:
            break  # so many places hold no record: what was looked at is enough for one answer
    return json_reply({"runs": found, "cursor": str(cursor) if is_more and cursor else ""})


def _is_wanted(record: Record, function: str, state: str) -> bool:
    return (not function or record.function == function) and (not state or record.state == state)


async def get_stream(request: Request) -> Response:
    """A run's answer from the start or after a number, and what comes until its end."""
    runs, run = _runs(request), _id(request)
    if request.method == "HEAD":  # there is no body to wait for
        await runs.find(run)
        return Response()
    form = parse_format(request.query_params.get("format", ""))
    after = _after(request, run)
    is_joined = request.headers.get("x-tailrace-joined") == "1"
    wait_s = float(parse_seq(request.query_params.get("wait", "0")) or 0)
    stack = contextlib.AsyncExitStack()
    try:
        _, log = await stack.enter_async_context(runs.view(run, wait_s=min(max(wait_s, SOON_S), RECORD_S)))
        head_s = parts(request).settings.early_head_s
        limit_s = head_s if "text/event-stream" in request.headers.get("accept", "") else None
        if not await _wait_head(log, limit_s, request.receive):
            await stack.aclose()
            return Response()  # to nobody
        head, end = log.head, log.end
        if end is not None and (head is None or await _is_untold(runs, run, log)):
            refused = await _headless(runs, run)
            await stack.aclose()
            return refused
        if head is not None and is_drained(after, end, Writer(run, head, form).is_numbered):
            await stack.aclose()
            return Response(status_code=204)
    except BaseException:
        await stack.aclose()
        raise
    settings = parts(request).settings
    return _Viewing(
        stack, runs, log, run=run, form=form, after=after or 0, is_joined=is_joined,
        heartbeat_s=settings.heartbeat_s, slow_s=settings.stall_timeout_s * SLOW,
    )  # fmt: skip


def _after(request: Request, run: str) -> int | None:
    text = request.query_params.get("after", "")
    if text:
        event = parse_event_id(text)
        seq = event.seq if event is not None and event.run == run else parse_seq(text)
        if seq is None:
            raise InvalidRequest(f"after={text[:60]} is no number of an event of this run")
        return seq
    event = parse_event_id(request.headers.get("last-event-id", ""))
    return event.seq if event is not None and event.run == run else None


async def _wait_head(log: Log, limit_s: float | None, receive: Receive) -> bool:
    """Wait for the function's answer, so long at most; False when the viewer has left before."""
    if log.head is not None or log.end is not None:
        return True
    coming, leaving = asyncio.ensure_future(_come(log)), asyncio.ensure_future(_wait_gone(receive))
    try:
        await asyncio.wait((coming, leaving), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        return not leaving.done()
    finally:
        coming.cancel()
        leaving.cancel()
        await asyncio.gather(coming, leaving, return_exceptions=True)


async def _come(log: Log) -> None:
    while log.head is None and log.end is None:
        await log.wait_change(None)


async def _is_untold(runs: Runs, run: str, log: Log) -> bool:
    """Whether it failed behind a head that its first client was not sent, but a real status instead."""
    head, end = log.head, log.end
    if head is None or end is None or not end.code or log.pieces:
        return False
    return (await runs.find(run)).status not in (0, head.status)


async def _headless(runs: Runs, run: str) -> Response:
    """The answer to who watches a run that ended before its function had answered."""
    record = await runs.find(run)
    text = record.error or record.unrecorded or "the run ended before its function had answered"
    return PlainTextResponse(f"{text}\n", record.status or 502)


class _Viewing(Response):
    """Writes a log to one viewer until its end, the viewer's leaving, or its being too slow."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, runs: Runs, log: Log, *, run: str, form: Format, after: int,
        is_joined: bool, heartbeat_s: float, slow_s: float,
    ) -> None:  # fmt: skip
        self._stack = stack
        self._runs = runs
        self._log = log
        self._run = run
        self._form = form
        self._seq = after
        self._is_joined = is_joined
        self._heartbeat_s = heartbeat_s or None
        self._slow_s = slow_s

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            sending = asyncio.ensure_future(self._send_all(send))
            leaving = asyncio.ensure_future(_wait_gone(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                sending.cancel()
                done = await asyncio.gather(sending, leaving, return_exceptions=True)
            if isinstance(done[0], Cut):
                raise done[0]

    async def _send_all(self, send: Send) -> None:
        writer = self._writer()
        head = self._log.head
        status = head.status if head is not None and self._is_joined and self._form == "same" else 200
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in writer.headers]
        lines += [(b"x-call-id", self._run.encode()), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        try:
            async for data, seq in self._pieces(writer):
                async with asyncio.timeout(self._slow_s):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                self._seq = seq
        except TimeoutError:
            # uvicorn writes nothing while the last has not left: this piece was not, and the last words wait.
            self._runs.numbers.viewers_dropped += 1
            await self._stack.aclose()
            await self._say_last(send, writer.too_slow(self._seq))
            return
        assert self._log.end is not None
        await self._say_last(send, writer.end(self._log.end))

    def _writer(self) -> Writer:
        waiting = Head(200, [("content-type", "text/event-stream"), ("cache-control", "no-cache")])
        return Writer(self._run, self._log.head or waiting, self._form)

    async def _pieces(self, writer: Writer) -> AsyncIterator[tuple[bytes, int]]:
        """What the viewer has not seen, as it comes, with its last number; heartbeats while nothing does."""
        log, seq = self._log, self._seq
        while True:
            if log.head is not None and writer.head is not log.head:
                writer = self._writer()
            data, count = bytearray(), len(log.pieces)
            while seq < count and len(data) < WRITE_BYTES:
                seq += 1
                data += writer.piece(seq, log.pieces[seq - 1])
            if data:
                yield bytes(data), seq
                await asyncio.sleep(0)
            elif log.end is not None:
                return
            elif not await log.wait_change(self._heartbeat_s if writer.is_events else None):
                yield heartbeat(carries_ids=writer.is_numbered), seq

    async def _say_last(self, send: Send, words: bytes | None) -> None:
        """The last bytes; without any the connection is cut, so that nobody takes it for the end.

        Raises:
            Cut: uvicorn then closes without the last chunk.
        """
        if words is None:
            raise Cut
        await send({"type": "http.response.body", "body": words, "more_body": False})


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
