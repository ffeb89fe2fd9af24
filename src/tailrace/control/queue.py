"""``/system/queue``: what waits, dead letters, the secret of callbacks; and calls that other workers make."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.async_calls import intake_of
from tailrace.control.parts import UntilGone, json_reply, parts
from tailrace.errors import InvalidRequest, NotFound, RunsUnavailable, TailraceError, TooLarge
from tailrace.queue.caller import EdgeCaller
from tailrace.queue.calls import DeadLetter, Outcome, decode
from tailrace.queue.policy import Task
from tailrace.runs.ids import is_run_id
from tailrace.wire.queue import CallbackKey, DeadCall, QueueListing, WaitingCalls

# What a task has beside its body: headers and small values.
_HEAD_BYTES = 256 * 1024
# An empty line so often tells proxies, and the worker, that the call still runs.
HEARTBEAT_S = 10.0
NDJSON = "application/x-ndjson"


async def get_all(request: Request) -> Response:
    """What waits, by queue and function, and the dead letters, the oldest first."""
    listing = await intake_of(parts(request)).listing()
    waiting = [WaitingCalls(w.queue, w.function, w.pending, w.handed_out) for w in listing.waiting]
    dead = [_shown(letter) for letter in listing.dead]
    return json_reply(QueueListing(waiting, dead, listing.dead_total, listing.results))


async def get_one(request: Request) -> Response:
    """The dead letters of one call."""
    return json_reply([_shown(found) for found in await intake_of(parts(request)).dead(_id(request))])


async def retry(request: Request) -> Response:
    """Have a call's dead letters tried again; what they were."""
    found = await intake_of(parts(request)).retry(_id(request))
    return json_reply([_shown(letter) for letter in found], 202)


async def drop(request: Request) -> Response:
    """Forget a call's dead letters; what they were."""
    return json_reply([_shown(letter) for letter in await intake_of(parts(request)).drop(_id(request))])


async def get_key(request: Request) -> Response:
    """The secret that results are signed with, for those who receive them."""
    intake, store = intake_of(parts(request)), ""
    with contextlib.suppress(RunsUnavailable):
        store = await intake.streams.read_identity()
    key = CallbackKey(intake.secret.decode("latin-1"), store)
    return json_reply(key, headers={"cache-control": "no-store"})


async def make(request: Request) -> Response:
    """Make a call for a worker elsewhere, as a run under its id; what became of it, as the last line."""
    here = parts(request)
    intake_of(here)
    limit = here.settings.async_body_limit + _HEAD_BYTES
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"a worker's call is larger than {limit} bytes (async_body_limit)")
    task = decode(bytes(body), Task)
    if task is None or not is_run_id(task.call.run):
        raise InvalidRequest("this is no call of a worker")
    assert here.queue is not None
    return UntilGone(_made(here.queue.caller, task), media_type=NDJSON)


async def _made(caller: EdgeCaller, task: Task) -> AsyncIterator[bytes]:
    making = asyncio.ensure_future(caller.call(task.call, task.body, task.policy))
    try:
        while not making.done():
            await asyncio.wait((making,), timeout=HEARTBEAT_S)
            if not making.done():
                yield b"\n"
        try:
            outcome = making.result()
        except TailraceError as failed:
            outcome = Outcome("queued", status=failed.http_status, is_ours=True, error=failed.message)
        yield msgspec.json.encode(outcome) + b"\n"
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)


def _id(request: Request) -> str:
    run: str = request.path_params["id"]
    if not is_run_id(run):
        raise NotFound(f"'{run[:40]}' is no call's id")
    return run


def _shown(letter: DeadLetter) -> DeadCall:
    call, callback = letter.call, letter.callback
    return DeadCall(
        letter.kind,
        letter.run,
        letter.function,
        letter.queue,
        letter.reason,
        letter.error,
        letter.tries,
        _instant(letter.died_at),
        accepted_at=_instant(call.accepted_at) if call else None,
        target=call.target if call else "",
        body_bytes=call.size if call else 0,
        callback_url=callback.url if callback else call.callback_url if call else "",
    )


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
