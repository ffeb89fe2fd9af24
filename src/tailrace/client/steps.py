"""What a stream that resumes does, step by step, for a loop that awaits and one that blocks. Pure.

`steps` says what to do, and is sent what came of it. `streams` and `sync` do it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from tailrace.client.course import (
    ATTEMPTS,
    SILENCE_S,
    Course,
    Reply,
    Verdict,
    is_run_id,
    refusal_of,
)
from tailrace.errors import InvalidRequest, PlatformError
from tailrace.wire.runs import RunRecord
from tailrace.wire.sse import EventTooLarge, ServerEvent, SseDecoder

_RUN_URL = re.compile(r"(.*)/run/([a-z2-7]{26})(?:/stream)?")
_FRAMING = ("content-length", "transfer-encoding")
_EVENT_STREAM = ("accept", "text/event-stream")
# What requests about the run do not take from the call.
_OF_THE_CALL = ("accept", "content-type", "idempotency-key")


@dataclass(frozen=True, slots=True)
class Resume:
    """How a stream goes on.

    Attributes:
        attempts: How many attempts in a row may bring nothing before it is given up.
        silence_s: Seconds without a byte, heartbeats included, after which a connection is taken for dead.
        key: The call's ``Idempotency-Key``: the same key and request never start a second run.
            Empty: that of the call's headers, else a random one.
        on_disconnect: ``cancel``, ``continue`` or ``grace:10s``: what becomes of the run when nobody reads
            it, within what the function allows. Empty: what the function says.
    """

    attempts: int = ATTEMPTS
    silence_s: float = SILENCE_S
    key: str = ""
    on_disconnect: str = ""


RESUME = Resume()


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this request, in place of the connection that is open."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Read:
    """Read on."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let the connection go and wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection failed."""

    error: Exception


# What is to be done; an event is to be given out.
Step = Ask | Read | Pause | ServerEvent
# What came of it: a reply to Ask; bytes, empty at the end, to Read; a failure of either; else nothing.
Told = Reply | bytes | Broken | None


@dataclass(frozen=True, slots=True)
class Target:
    """What a stream asks.

    Attributes:
        gateway: Where its run is looked for.
        call: The request that starts the run; None for one that was started.
        headers: Sent with requests about the run.
    """

    gateway: str
    call: Ask | None
    headers: tuple[tuple[str, str], ...] = ()

    def ask(self, course: Course) -> Ask:
        """The next request for events."""
        if not course.next_is_watch():
            assert self.call is not None
            return self.call
        url = f"{self.gateway}/run/{course.run}/stream?format=sse&after={course.after}"
        return Ask("GET", url, (*self.headers, _EVENT_STREAM))

    def look(self, run: str) -> Ask:
        """The request for the run's record."""
        return Ask("GET", f"{self.gateway}/run/{run}", self.headers)

    def stop(self, run: str) -> Ask:
        """The request that stops the run."""
        return Ask("DELETE", f"{self.gateway}/run/{run}", self.headers)


def check_headers(names: Iterable[str]) -> None:
    """Refuse headers that say how the body is framed: they follow from it.

    Raises:
        InvalidRequest: there is one.
    """
    for name in names:
        if name.lower() in _FRAMING:
            raise InvalidRequest(f"the header {name} cannot be given: it follows from the body")


def call_target(
    url: str, method: str, body: bytes | str, headers: Mapping[str, str], resume: Resume | None, gateway: str
) -> Target:
    """The target of a call.

    Raises:
        InvalidRequest: the URL is none, or a header says how the body is framed.
    """
    check_headers(headers)
    content = body.encode() if isinstance(body, str) else body
    own = tuple((name.lower(), value) for name, value in headers.items())
    names = {name for name, _ in own}
    sent = own if "accept" in names else (*own, _EVENT_STREAM)
    if resume is not None:
        key = resume.key or dict(own).get("idempotency-key") or secrets.token_hex(16)
        ours = {"x-tailrace-record": "1", "idempotency-key": key}
        if resume.on_disconnect:
            ours["x-tailrace-on-disconnect"] = resume.on_disconnect
        sent = (*((name, value) for name, value in sent if name not in ours), *ours.items())
    about = tuple((name, value) for name, value in own if name not in _OF_THE_CALL)
    call = Ask((method or ("POST" if content else "GET")).upper(), url, sent, content)
    return Target(gateway.rstrip("/") or gateway_of(url), call, about)


def run_target(run: str, headers: Mapping[str, str], gateway: str) -> tuple[Target, str]:
    """The target of a run, by its URL or by its id and where the gateway is; and its id.

    Raises:
        InvalidRequest: it is neither, or the id comes without a gateway.
    """
    about = tuple((name.lower(), value) for name, value in headers.items())
    found = _RUN_URL.fullmatch(run.partition("?")[0])
    if found is not None:
        return Target(gateway.rstrip("/") or found[1], None, about), found[2]
    if not is_run_id(run):
        raise InvalidRequest(f"'{run[:100]}' is neither the id nor the URL of a run")
    if not gateway:
        raise InvalidRequest(f"run {run} is named by its id alone; say at which gateway it is")
    return Target(gateway.rstrip("/"), None, about), run


def gateway_of(url: str) -> str:
    """The gateway that a function's URL belongs to, also below a prefix.

    Raises:
        InvalidRequest: the URL is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidRequest(f"'{url[:100]}' is no http:// or https:// URL")
    prefix = re.match(r"(.*?)/(?:async-)?function/", parts.path)
    return f"{parts.scheme}://{parts.netloc}{prefix[1] if prefix else ''}"


def parse_after(after: str | int, run: str) -> int:
    """The number of an event of a run, from its id or itself.

    Raises:
        InvalidRequest: it is neither.
    """
    text = str(after).removeprefix(f"{run}-")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidRequest(f"after: '{str(after)[:60]}' is no event of run {run}")
    return int(text)


def steps(course: Course, target: Target, random: Callable[[], float]) -> Generator[Step, Told, None]:
    """Everything from the first request to the end.

    Raises:
        RunFailed, RunStopped, RunExpired, CallRefused, ConnectionLost: as `Course` says.
    """
    while True:
        verdict, cause = yield from _connection(course, target)
        if verdict is Verdict.LOOK:
            verdict, cause = yield from _look(course, target)
        if verdict is Verdict.DONE:
            return
        yield Pause(course.pause_s(random(), cause))


def _connection(course: Course, target: Target) -> Generator[Step, Told, tuple[Verdict, Exception | None]]:
    told = yield target.ask(course)
    if isinstance(told, Broken):
        return Verdict.AGAIN, told.error
    assert isinstance(told, Reply)
    verdict = course.replied(told)
    if verdict is not Verdict.READ:
        return verdict, None
    decoder = SseDecoder()
    while True:
        data = yield Read()
        if isinstance(data, Broken):
            return Verdict.AGAIN, data.error
        assert isinstance(data, bytes)
        if not data:
            return course.ended(), None
        if data.startswith(b":"):
            course.heard()  # a heartbeat
        for event in _feed(decoder, data):
            verdict = course.event(event)
            if verdict is Verdict.READ:
                yield event
            elif verdict is not Verdict.SKIP:
                return verdict, None


def _feed(decoder: SseDecoder, data: bytes) -> list[ServerEvent]:
    try:
        return decoder.feed(data)
    except EventTooLarge as large:
        raise PlatformError(f"the stream cannot be read: {large}") from large


def _look(course: Course, target: Target) -> Generator[Step, Told, tuple[Verdict, Exception | None]]:
    told = yield target.look(course.run)
    if isinstance(told, Broken):
        return Verdict.AGAIN, told.error
    assert isinstance(told, Reply)
    if told.status >= 500:
        return Verdict.AGAIN, None
    return course.looked(read_record(told)), None


def read_record(reply: Reply) -> RunRecord:
    """The record in a reply.

    Raises:
        RunExpired, CallRefused: there is none.
        PlatformError: it is not what was expected.
    """
    if reply.status != 200:
        raise refusal_of(reply)
    try:
        return msgspec.json.decode(reply.body, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as bad:
        raise PlatformError(f"the run's record is not what was expected: {bad}") from bad
