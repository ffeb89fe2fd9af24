"""``GET /system/logs``: what a function wrote, as NDJSON, and on request what it writes from now on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.parts import UntilGone, namespace_of, parts
from tailrace.errors import InvalidRequest, NotFound
from tailrace.functions.logs import Follower, LogStore
from tailrace.model import LogLine
from tailrace.names import FunctionName, parse_function_name
from tailrace.wire import openfaas


async def get(request: Request) -> Response:
    """Lines of one function: ``name``, ``namespace``, ``instance``, ``since``, ``tail``, ``follow``."""
    query = request.query_params
    name = parse_function_name(query.get("name", ""))
    if name is not None and "namespace" in query:
        name = FunctionName(name.name, namespace_of(request))
    here = parts(request)
    if name is None or here.table.get(name) is None:
        raise NotFound(f"function '{query.get('name', '')[:80]}' is not deployed")
    since_ns = _since_ns(query.get("since", ""))
    limit = _tail(query.get("tail", ""))
    lines = _lines(
        here.logs, name, since_ns=since_ns, limit=limit, instance=query.get("instance", ""),
        is_following=query.get("follow", "").lower() in ("true", "1"),
    )  # fmt: skip
    return UntilGone(lines, media_type="application/x-ndjson")


async def _lines(
    logs: LogStore, name: FunctionName, *, since_ns: int, limit: int | None, instance: str, is_following: bool
) -> AsyncIterator[bytes]:
    with logs.follow(name) as follower:  # before the tail is read, so that no line falls between
        for line in logs.tail(name, since_ns=since_ns, limit=limit):
            if instance in ("", line.instance):
                yield _message(line)
        if not is_following:
            return
        async for line in _without_gaps(follower):
            if instance in ("", line.instance):
                yield _message(line)


async def _without_gaps(follower: Follower) -> AsyncIterator[LogLine]:
    told = 0
    async for line in follower:
        if follower.dropped > told:
            lost = f"[{follower.dropped - told} lines were dropped: this reader is too slow]\n"
            told = follower.dropped
            yield LogLine(line.function, "tailrace", line.timestamp_ns, lost, stream="stderr")
        yield line


def _message(line: LogLine) -> bytes:
    seconds, ns = divmod(line.timestamp_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    message = openfaas.LogMessage(
        name=line.function.name,
        namespace=line.function.namespace,
        instance=line.instance,
        timestamp=f"{moment}.{ns:09d}Z",
        text=line.text,
        call_id=line.call_id,
        stream=line.stream,
    )
    return msgspec.json.encode(message) + b"\n"


def _since_ns(text: str) -> int:
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise InvalidRequest(f"since={text[:40]} is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1e9)


def _tail(text: str) -> int | None:
    try:
        count = int(text or "-1")
    except ValueError:
        raise InvalidRequest(f"tail={text[:40]} is not a whole number") from None
    return None if count < 0 else count
