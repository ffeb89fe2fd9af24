"""``POST /build`` and ``GET /publickey``: the remote builder that ``faas-cli --remote-builder`` talks to.

Both are there only with a payload secret, whose signature is all the credentials they ask for.

Source: contract 1.5.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.build import sealed
from tailrace.build.builder import Builder, Job, Progress
from tailrace.control.parts import Parts, UntilGone, json_reply, parts
from tailrace.errors import NotFound, TailraceError, UnsupportedContent
from tailrace.wire.openfaas import BuildResult, PublicKey

logger = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
# faas-cli reads lines of under 64 KiB (bufio.Scanner); a character takes at most 6 bytes in JSON.
_LINE_CHARACTERS = 4096
_BATCH_BYTES = 32 * 1024
_HEARTBEAT_S = 15.0
# What a client that takes no stream is told at the end.
_LOG_LINES = 1000
_TYPES = ("", "application/octet-stream", "application/x-tar")


async def post(request: Request) -> Response:
    """Build what the body's tar holds; progress as NDJSON, or one JSON object for who accepts none."""
    builder = _builder(request)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _TYPES:
        raise UnsupportedContent(
            f"expected Content-Type application/octet-stream, got '{content_type[:100]}'"
        )
    here = parts(request)
    async with contextlib.AsyncExitStack() as stack:
        signature, address = (
            request.headers.get(name, "") for name in ("x-build-signature", "x-forwarded-for")
        )
        receiving = builder.receiving(request.stream(), signature, address)
        try:
            job = await stack.enter_async_context(receiving)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        is_stream = NDJSON in request.headers.get("accept", "")
        return _Building(job, stack.pop_all(), lambda: _prune(here), is_stream=is_stream)


async def _prune(here: Parts) -> None:
    """Remove bundles that a tag has left, as every upload does."""
    await here.prune([function.spec.bundle for function in here.table])


async def get_key(request: Request) -> Response:
    """The public key that build secrets are sealed with."""
    key = _builder(request).key
    return json_reply(PublicKey(key.id, sealed.ALGORITHM, key.public))


class _Building(UntilGone):
    """A build that runs as long as its client listens, and gives back what it holds when that is over."""

    _progress: Progress

    def __init__(
        self,
        job: Job,
        held: contextlib.AsyncExitStack,
        prune: Callable[[], Awaitable[None]],
        *,
        is_stream: bool,
    ) -> None:
        self._job = job
        self._held = held
        self._prune = prune
        body = self._lines() if is_stream else self._whole()
        super().__init__(body, media_type=NDJSON if is_stream else "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held, self._job.running() as self._progress:
            await super().__call__(scope, receive, send)

    async def _lines(self) -> AsyncIterator[bytes]:
        async for result in self._results():
            yield msgspec.json.encode(result) + b"\n"

    async def _whole(self) -> AsyncIterator[bytes]:
        log: list[str] = []
        result = BuildResult([])
        async for result in self._results():
            log = [*log, *result.log][-_LOG_LINES:]
        yield msgspec.json.encode(msgspec.structs.replace(result, log=log))

    async def _results(self) -> AsyncIterator[BuildResult]:
        progress = self._progress
        while not progress.is_over:
            # An empty line now and then tells proxies that this is alive.
            for batch in _batches(await progress.take(_HEARTBEAT_S)) or [[]]:
                yield BuildResult(batch)
        outcome = _outcome(progress, self._job.upload.config.image)
        await self._held.aclose()  # who reads the outcome finds nothing of the build but its image
        if outcome.status == "success":
            await self._prune()
        yield outcome


def _outcome(progress: Progress, image: str) -> BuildResult:
    assert progress.task is not None  # it runs as long as there is a progress
    failed = progress.task.exception()
    if failed is None:
        return BuildResult([], progress.task.result().image, "success")
    if not isinstance(failed, TailraceError):
        logger.error("building %s failed", image, exc_info=failed)
        return BuildResult([], image, "failed", "the gateway failed to build it; its log says why")
    return BuildResult([], image, "failed", failed.text[: 2 * _LINE_CHARACTERS])


def _batches(lines: list[str]) -> list[list[str]]:
    """The lines in lists that stay below the limit of one line of the reply."""
    found: list[list[str]] = []
    size = _BATCH_BYTES
    for line in lines:
        clipped = line[:_LINE_CHARACTERS]
        size += len(msgspec.json.encode(clipped))
        if size > _BATCH_BYTES:
            found.append([])
            size = len(msgspec.json.encode(clipped))
        found[-1].append(clipped)
    return found


def _builder(request: Request) -> Builder:
    builder = parts(request).builder
    if builder is None:
        raise NotFound(
            "there is no remote builder here", hint="Start the gateway with --payload-secret-file FILE."
        )
    return builder
