"""``/async-function/NAME``: calls that nobody waits for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.parts import Parts, parts
from tailrace.durations import parse_duration
from tailrace.edge import ends
from tailrace.edge.call_id import new_call_id
from tailrace.edge.heads import is_client_call_id
from tailrace.errors import InvalidRequest, NotFound, Overloaded, RunsUnavailable, TooLarge
from tailrace.functions.table import Function
from tailrace.queue.calls import QueuedCall
from tailrace.queue.intake import Intake
from tailrace.queue.targets import read_target
from tailrace.runs.claims import Claim, claim_name, is_key, request_digest
from tailrace.runs.ids import is_run_id
from tailrace.runs.policy import chosen_policy
from tailrace.wire.heads import HEAD_LIMIT, HEADER_COUNT_LIMIT, HOP_BY_HOP

_PREFIX = b"/async-function/"
# Of the connection to the gateway, or what the worker's own call has anew.
_DROPPED = HOP_BY_HOP | {b"content-length", b"expect", b"host", b"x-call-id", b"x-client-call-id"}
# What a worker's call adds to the head that came: its own lines, and the function's whole name.
_HEADERS_LIMIT, _LINES_LIMIT = HEAD_LIMIT - 1024, HEADER_COUNT_LIMIT - 3
# Of bodies that are being taken in, all together.
HELD_BYTES = 64 * 1024 * 1024


async def post(request: Request) -> Response:
    """Take a call in: 202 once it is kept."""
    here = parts(request)
    function, target = _function(here, request)
    intake = intake_of(here)
    callback_url = _callback_url(request, allow_private=here.settings.callback_allow_private)
    asked = request.headers.get("x-tailrace-on-disconnect", "")
    chosen_policy(function.options.grace_s, asked, is_async=True)
    timeout = request.headers.get("x-timeout", "")
    if timeout and not parse_duration(timeout):
        raise InvalidRequest(f"X-Timeout: {timeout[:40]} is not one duration such as 10s or 1m30s")
    headers = _headers(request, target)
    async with _reading(request, intake, here.settings.async_body_limit) as body:
        now = time.time_ns()
        run, key, is_new = await _identity(request, intake, str(function.name), target, body, callback_url)
        if is_new:
            call = QueuedCall(
                run, str(function.name), function.options.retries.queue, target, headers,
                callback_url=callback_url, accepted_at=now / 1e9, start_ns=now,
            )  # fmt: skip
            await intake.accept(call, body, key)
    told = {"X-Call-Id": run, "X-Start-Time": str(now), "Location": f"/run/{run}"}
    return Response(status_code=202, headers=told)


async def _identity(
    request: Request, intake: Intake, function: str, target: str, body: bytes, callback_url: str
) -> tuple[str, str, bool]:
    """The call's id, its claim's name, and whether it is to be kept: not one that its key has kept before."""
    run, key = new_call_id().decode(), request.headers.get("idempotency-key", "").encode("latin-1")
    if not key:
        return run, "", True
    if not is_key(key):
        raise InvalidRequest("Idempotency-Key is not 1 to 256 visible ASCII characters")
    authorization = request.headers.get("authorization", "").encode("latin-1")
    # Not the key of a call that is waited for: that one's answer would be none of this request's.
    name = claim_name(f"async {function}", authorization, key)
    digest = request_digest(b"POST", target.encode("latin-1"), body, callback_url.encode("latin-1"))
    held = await intake.claim(name, Claim(run, digest, time.time()))
    return held, name, held == run or not await intake.is_kept(held)


async def delete(request: Request) -> Response:
    """Cancel a call: one that waits never runs, one that runs ends."""
    intake, run = intake_of(parts(request)), request.path_params["name"]
    if not is_run_id(run):
        raise NotFound(f"'{run[:40]}' is no call's id", hint="It is the X-Call-Id of the answer 202.")
    await intake.cancel(run)
    return Response(status_code=202, headers={"X-Call-Id": run, "Location": f"/run/{run}"})


def _function(here: Parts, request: Request) -> tuple[Function, str]:
    """The function that the path means, and what follows its name in path and query, as it was sent."""
    raw: bytes = request.scope["raw_path"]
    label, slash, rest = raw.removeprefix(_PREFIX).partition(b"/")
    function = here.table.find(label)
    if function is None:
        raise ends.not_found(here.table, label, is_open=not here.settings.auth)
    query: bytes = request.scope["query_string"]
    mark = b"?" if query else b""
    return function, (b"/" + rest + mark + query if slash or query else b"").decode("latin-1")


def intake_of(here: Parts) -> Intake:
    """The queue of this gateway.

    Raises:
        RunsUnavailable: it has no NATS.
    """
    if here.queue is None:
        raise RunsUnavailable(
            "asynchronous calls need NATS JetStream, and this gateway has none",
            hint="Start it without --nats-url off (TAILRACE_NATS_URL).",
        )
    return here.queue.intake


def _callback_url(request: Request, *, allow_private: bool) -> str:
    """Where the result goes; empty: nowhere."""
    urls = request.headers.getlist("x-callback-url")
    if len(urls) > 1:
        raise InvalidRequest(f"X-Callback-Url came {len(urls)} times: a result goes to one address")
    if urls and urls[0]:
        read_target(urls[0], allow_private=allow_private)
        return urls[0]
    return ""


def _headers(request: Request, target: str) -> tuple[tuple[str, str], ...]:
    """The caller's headers as the function is to see them.

    Raises:
        InvalidRequest: its own call id is none.
        TooLarge: the worker's call, which has some more, would be refused.
    """
    tokens = request.headers.get("connection", "").lower().split(",")
    named = {token.strip().encode("latin-1") for token in tokens}
    found, size = [], len(target)
    for name, value in request.headers.raw:
        if name in _DROPPED or name in named:
            continue
        size += len(name) + len(value) + len(": \r\n")
        found.append((name.decode("latin-1"), value.decode("latin-1")))
    client_id = request.headers.get("x-call-id", "")
    if client_id:
        if not is_client_call_id(client_id.encode("latin-1")):
            raise InvalidRequest("X-Call-Id is not 1 to 128 of A-Z a-z 0-9 . _ -")
        found.append(("x-client-call-id", client_id))
    host = request.headers.get("host", "")
    if host:
        found.insert(0, ("host", host))
    if size > _HEADERS_LIMIT or len(found) > _LINES_LIMIT:
        raise TooLarge(
            f"the head of an asynchronous call has more than {_HEADERS_LIMIT} bytes or {_LINES_LIMIT} headers"
        )
    return tuple(found)


@contextlib.asynccontextmanager
async def _reading(request: Request, intake: Intake, limit: int) -> AsyncIterator[bytes]:
    """The whole body. All that are held at once have one bound, until the context is left."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            intake.held_bytes += len(chunk)
            if len(body) > limit:
                raise TooLarge(
                    f"the body of an asynchronous call is larger than {limit} bytes (async_body_limit)"
                )
            if intake.held_bytes > max(HELD_BYTES, limit):
                raise Overloaded("too many bodies of asynchronous calls come at once; try again later")
        yield bytes(body)
    finally:
        intake.held_bytes -= len(body)
