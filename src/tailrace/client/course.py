"""How far a stream has come, and what to do next. Pure: it is told what happened, and answers or raises.

`clients/js/src/course.ts` is the same in TypeScript.

    ask ──▶ read ──▶ read ... ──▶ end
     ▲       │ broken, or cut before its end        look: the record says what became of the run
     └─ pause ◀──────┘
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.errors import CallRefused, ConnectionLost, RunExpired, RunFailed, RunStopped, TailraceError
from tailrace.wire.runs import RunRecord
from tailrace.wire.sse import ServerEvent

# Twelve attempts that bring nothing take about a minute.
ATTEMPTS = 12
# Gateways send a heartbeat after 15 s of silence.
SILENCE_S = 45.0
_FIRST_S, _LONGEST_S = 0.2, 15.0
_RUN_ID = re.compile(r"[a-z2-7]{26}")
_EVENT_ID = re.compile(r"([a-z2-7]{26})-(0|[1-9][0-9]{0,8})")
# What is longer than a day is no word of a gateway.
_SECONDS = re.compile(r"[0-9]{1,5}")
_TOO_SLOW = "viewer_too_slow"
# Failures of one viewer, not of the run: it is asked again.
_PASSING = frozenset((_TOO_SLOW, "runs_unavailable"))


class Verdict(enum.Enum):
    """What to do with a reply, an event or an end."""

    READ = enum.auto()
    SKIP = enum.auto()
    DONE = enum.auto()
    AGAIN = enum.auto()
    LOOK = enum.auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: its head with lower-case names, and the body when that is no event stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_events(self) -> bool:
        return self.status < 300 and self.headers.get("content-type", "").startswith("text/event-stream")


def is_run_id(text: str) -> bool:
    """Whether text is the id of a run."""
    return _RUN_ID.fullmatch(text) is not None


class Course:
    """One stream.

    Attributes:
        run: The run's id; empty while it is not known.
        after: Number of the last event that was given out, where events have numbers.

    Args:
        attempts: How many attempts in a row may bring nothing; 0: the stream is not resumed.
        run: The run to watch, from the event after number ``after``; without one a call is made.
    """

    def __init__(self, attempts: int, run: str = "", after: int = 0) -> None:
        self.run = run
        self.after = after
        self._attempts = attempts
        self._failures = 0
        self._is_attached = self._is_numbered = bool(run)
        self._is_watching = self._is_native = False
        self._given = self._to_skip = 0
        self._floor_s = 0.0

    def next_is_watch(self) -> bool:
        """What to ask: the run after ``after``, or the request itself, which its key makes the same call."""
        if not self._is_numbered:
            self._to_skip = self._given
        self._is_watching = bool(self.run)
        return self._is_watching

    def replied(self, reply: Reply) -> Verdict:
        """Whether the reply's body is to be read.

        Raises:
            RunExpired, ConnectionLost: what is missing cannot be had any more.
            CallRefused: its status is no success, or it is no event stream.
        """
        headers = reply.headers
        call_id = headers.get("x-call-id", "")
        if reply.status < 300 and is_run_id(call_id):
            self.run = self.run or call_id
        if reply.status == 204:
            return Verdict.LOOK
        if reply.is_events:
            self._is_native |= headers.get("x-tailrace-dialect") == "native"
            return Verdict.READ
        if reply.status < 300:
            kind = headers.get("content-type") or "of no type"
            message = f"expected text/event-stream, the answer is {kind}"
            raise CallRefused(message, status=reply.status, body=reply.body)
        if reply.status == 410:
            raise refusal_of(reply)
        retry_after = headers.get("retry-after", "")
        self._floor_s = float(retry_after) if _SECONDS.fullmatch(retry_after) else 0.0
        again = self._verdict_of_status(reply.status, is_call=bool(call_id))
        if again is None:
            raise refusal_of(reply)
        return again

    def _verdict_of_status(self, status: int, *, is_call: bool) -> Verdict | None:
        if self._is_watching:
            if status >= 500:
                return Verdict.LOOK  # a proxy's, the gateway's, or that of a run which never began
            if status in (408, 429):
                return Verdict.AGAIN
            if status == 404 and not self._is_attached:
                raise ConnectionLost(f"the connection broke, and the gateway does not know run {self.run}")
        elif not is_call and status in (502, 503, 504):
            return Verdict.AGAIN  # a proxy's words: the gateway names each of its calls
        return None

    def heard(self) -> None:
        """Something came that is no event: the connection is alive."""
        self._failures = 0

    def event(self, event: ServerEvent) -> Verdict:
        """Whether the event is to be given out.

        Raises:
            RunFailed, RunStopped: it tells that the run ended so.
        """
        found = _EVENT_ID.fullmatch(event.id or "")
        if found is not None:
            self.run = self.run or found[1]
        if found is not None and found[1] == self.run and (number := int(found[2])):
            if self._is_numbered and number <= self.after:
                return Verdict.SKIP
            self._is_numbered, self.after = True, number
        is_state = event.event == "status" and event.data.startswith('{"state":')
        if self._to_skip and not is_state:
            self._to_skip -= 1
            return Verdict.SKIP
        self._failures = 0
        if event.event == "end" and event.data == "{}":
            return Verdict.DONE
        failure = self._failure_in(event)
        if failure is not None:
            if failure[0] in _PASSING:
                return Verdict.AGAIN
            raise _failed(*failure)
        self._given += not is_state
        return Verdict.READ

    def ended(self) -> Verdict:
        """The body ended as a whole body does."""
        is_more = self._is_native or self._is_watching or self._is_numbered
        return Verdict.AGAIN if is_more else Verdict.DONE

    def looked(self, record: RunRecord) -> Verdict:
        """The run's record, which was looked up.

        Raises:
            RunFailed, RunStopped: what became of the run when it is over and not done.
        """
        if record.state == "done":
            return Verdict.DONE
        if record.state not in ("failed", "cancelled"):
            return Verdict.AGAIN
        reason = RunStopped.code if record.state == "cancelled" else record.end_reason
        raise _failed(reason, record.error or f"the run ended: {record.end_reason}")

    def pause_s(self, random: float, cause: Exception | None = None) -> float:
        """Seconds to wait before the next attempt; ``random`` is from 0 to 1.

        Raises:
            ConnectionLost: it was the last one.
        """
        self._failures += 1
        if self._failures > self._attempts:
            tried = f", and {self._attempts} attempts to go on brought nothing" if self._attempts else ""
            run = f" (run {self.run})" if self.run else ""
            raise ConnectionLost(f"the connection was lost before the answer's end{tried}{run}") from cause
        floor_s, self._floor_s = self._floor_s, 0.0
        # No power of two that a float cannot hold, however many attempts there are.
        return floor_s + random * min(_LONGEST_S, _FIRST_S * float(2 ** min(self._failures - 1, 16)))

    def _failure_in(self, event: ServerEvent) -> tuple[str, str] | None:
        """Code and message of the platform's failure in an event, in each dialect's form."""
        is_named = event.event == "error"
        if not is_named and not event.data.startswith(('{"error":{', '{"type":"error"')):
            return None
        told = _parse(event.data)
        error = told if is_named else _object(told.get("error"))
        code, message, call_id = (error.get(name) for name in ("code", "message", "call_id"))
        if isinstance(code, str) and isinstance(message, str) and isinstance(call_id, str):
            return (code, message) if is_named or call_id == self.run else None
        text = told.get("errorText")  # the AI SDK's form, which has no place for a code
        if not self.run or not isinstance(text, str) or not text.endswith(f"(call {self.run})"):
            return None
        return (_TOO_SLOW if f"go on at /run/{self.run}/" in text else RunFailed.code), text


def _failed(reason: str, message: str) -> TailraceError:
    return RunStopped(message) if reason == RunStopped.code else RunFailed(message, reason=reason)


def refusal_of(reply: Reply) -> RunExpired | CallRefused:
    """The error that a reply without success is."""
    told = reply.body.decode("utf-8", "replace").partition("\n")[0].strip()
    message = told or f"the answer's status is {reply.status}"
    if reply.status == 410:
        return RunExpired(message)
    return CallRefused(message, status=reply.status, body=reply.body)


def _parse(text: str) -> dict[str, object]:
    try:
        return _object(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
