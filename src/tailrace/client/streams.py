"""Streams of events that go on where a cut connection left off, for programs that await.

    async with stream("http://127.0.0.1:8080/function/chat", body="Hello") as answer:
        async for event in answer:
            print(event.data)

`sync` has the same for programs that do not. What both do is in `steps`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from tailrace.client.connection import CONNECT_TIMEOUT_S, http_settings, is_hopeless, read_bounded, talking
from tailrace.client.course import Course, Reply
from tailrace.client.steps import (
    RESUME,
    Ask,
    Broken,
    Pause,
    Read,
    Resume,
    Target,
    Told,
    call_target,
    parse_after,
    read_record,
    run_target,
    steps,
)
from tailrace.errors import GatewayUnreachable, InvalidRequest
from tailrace.wire.runs import RunRecord
from tailrace.wire.sse import ServerEvent

_random = secrets.SystemRandom().random


class Stream:
    """The events of one run, to be read once. Leaving its context leaves the run."""

    def __init__(
        self, http: httpx.AsyncClient, course: Course, target: Target, silence_s: float | None
    ) -> None:
        self._http = http
        self._course = course
        self._target = target
        self._timeout = httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S, pool=None)
        self._line = AsyncExitStack()
        self._bytes: AsyncIterator[bytes] | None = None
        self._is_read = False

    @property
    def run(self) -> str:
        """The run's id; empty while it is not known."""
        return self._course.run

    @property
    def last_event_id(self) -> str:
        """The id of the last event that was given out, for `attach`; empty where there are no ids."""
        return f"{self.run}-{self._course.after}" if self._course.after else ""

    async def stop(self) -> RunRecord:
        """Stop the run, whose id must be known; the stream then raises RunStopped.

        Raises:
            InvalidRequest: the id is not known yet: nothing has come back.
        """
        if not self.run:
            raise InvalidRequest("the run's id is not known yet: no answer has come back")
        return await _ask_run(self._http, self._target.stop(self.run))

    async def __aiter__(self) -> AsyncIterator[ServerEvent]:
        """The events, exactly once each and in order.

        Raises:
            RunFailed: the run ended with an error after it had begun.
            RunStopped: it was stopped: by somebody, or because nobody read it any more.
            RunExpired: what is missing is no longer kept.
            CallRefused: the answer's status is no success, or it is no event stream.
            ConnectionLost: the connection broke, and going on was not possible or brought nothing.
        """
        if self._is_read:
            raise InvalidRequest("a stream is read once; attach to its run to read it again")
        self._is_read = True
        doing, told = steps(self._course, self._target, _random), None
        try:
            while True:
                try:
                    step = doing.send(told)
                except StopIteration:
                    return
                told = None
                if isinstance(step, ServerEvent):
                    yield step
                elif isinstance(step, Pause):
                    await self.aclose()
                    await asyncio.sleep(step.seconds)
                else:
                    told = await self._tell(step)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let the connection go that is open."""
        self._bytes = None
        await self._line.aclose()

    async def _tell(self, step: Ask | Read) -> Told:
        try:
            with talking(self._target.gateway):
                if isinstance(step, Ask):
                    await self.aclose()
                    return await self._ask(step)
                assert self._bytes is not None
                return await anext(self._bytes, b"")
        except GatewayUnreachable as broken:
            if is_hopeless(broken):
                raise
            return Broken(broken)

    async def _ask(self, ask: Ask) -> Reply:
        request = self._http.stream(
            ask.method, ask.url, headers=list(ask.headers), content=ask.body or None, timeout=self._timeout
        )
        response = await self._line.enter_async_context(request)
        reply = Reply(response.status_code, response.headers)
        if not reply.is_events:
            return Reply(reply.status, reply.headers, await read_bounded(response))
        self._bytes = response.aiter_bytes()
        return reply


@asynccontextmanager
async def stream(
    url: str,
    *,
    method: str = "",
    body: bytes | str = b"",
    headers: Mapping[str, str] | None = None,
    resume: Resume | None = RESUME,
    gateway: str = "",
    http: httpx.AsyncClient | None = None,
) -> AsyncIterator[Stream]:
    """Call a function and read its events across cut connections. The run is recorded, and started once.

    Args:
        method: ``POST`` with a body, else ``GET``.
        resume: None: one request, as it is; a cut is ConnectionLost.
        gateway: Where the run is looked for, when that is not where the function is called.
        http: The client to use, which stays open; one of its own otherwise.
    Raises:
        InvalidRequest: the URL is none.
    """
    target = call_target(url, method, body, headers or {}, resume, gateway)
    course = Course(resume.attempts if resume else 0)
    async with (
        _client(http, url, target.gateway) as client,
        _leaving(client, course, target, resume) as answer,
    ):
        yield answer


@asynccontextmanager
async def attach(
    run: str,
    *,
    after: str | int = 0,
    headers: Mapping[str, str] | None = None,
    resume: Resume = RESUME,
    gateway: str = "",
    http: httpx.AsyncClient | None = None,
) -> AsyncIterator[Stream]:
    """Read a run's events from the start or after one of them, and then as they come.

    Args:
        run: Its URL, or its id together with ``gateway``.
        after: The last event that is not wanted: its id or number.
        headers: ``Authorization``, where the function asks for it.
    Raises:
        InvalidRequest: ``run`` or ``after`` is none.
    """
    target, found = run_target(run, headers or {}, gateway)
    course = Course(resume.attempts, found, parse_after(after, found))
    async with (
        _client(http, target.gateway) as client,
        _leaving(client, course, target, resume) as answer,
    ):
        yield answer


async def stop(
    run: str,
    *,
    headers: Mapping[str, str] | None = None,
    gateway: str = "",
    http: httpx.AsyncClient | None = None,
) -> RunRecord:
    """Stop a run, whoever watches it; its record. A run that is over stays as it is.

    Raises:
        RunExpired, CallRefused: the gateway does not know it, or refuses.
        GatewayUnreachable: nobody answers.
    """
    target, found = run_target(run, headers or {}, gateway)
    async with _client(http, target.gateway) as client:
        return await _ask_run(client, target.stop(found))


@asynccontextmanager
async def _client(http: httpx.AsyncClient | None, url: str, *more: str) -> AsyncIterator[httpx.AsyncClient]:
    if http is not None:
        yield http
        return
    async with httpx.AsyncClient(**http_settings(url, *more)) as own:
        yield own


@asynccontextmanager
async def _leaving(
    http: httpx.AsyncClient, course: Course, target: Target, resume: Resume | None
) -> AsyncIterator[Stream]:
    answer = Stream(http, course, target, resume.silence_s if resume else None)
    try:
        yield answer
    finally:
        await answer.aclose()


async def _ask_run(http: httpx.AsyncClient, ask: Ask) -> RunRecord:
    with talking(ask.url):
        async with http.stream(ask.method, ask.url, headers=list(ask.headers)) as response:
            return read_record(Reply(response.status_code, response.headers, await read_bounded(response)))
