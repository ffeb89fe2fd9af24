"""What is known of one run: a frozen value, and which states may follow which. Pure.

queued ──▶ starting ──▶ streaming ──▶ done
 ▲ │         │ │          │ ├───────▶ failed
 │ └─────────┼─┴──────────┼─┴───────▶ cancelled
 └───────────┴────────────┘ a call of the queue waits for its next try
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

State = Literal["queued", "starting", "streaming", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
FINAL: frozenset[State] = frozenset(("done", "failed", "cancelled"))
_NEXT: dict[State, frozenset[State]] = {
    "queued": frozenset(("starting", "failed", "cancelled")),
    "starting": frozenset(("streaming", "done", "failed", "cancelled", "queued")),
    "streaming": frozenset(("done", "failed", "cancelled", "queued")),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
# The end reason of a run whose gateway died, and its replica with it.
REPLICA_LOST = "replica_lost"


class IllegalState(ValueError):
    """A change of state that cannot happen: a fault of ours, or a record that somebody else has ended."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model was asked and answered, in tokens. ``is_estimated``: counted by events, not told."""

    output_tokens: int
    input_tokens: int | None = None
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One run. Instants are seconds since 1970; None: not yet.

    Attributes:
        function: ``name.namespace``.
        attempts: How often a replica was asked: over 1 only for calls of the queue.
        tries: How often the queue has begun it, also where no replica was asked.
        bytes: What the function's answer has, without framing and ids, also past what was recorded.
        events: Events recorded; a piece of a body that has none counts as one.
        end_reason: As the call log names it, or `REPLICA_LOST`; empty before.
        error: What the caller was told when it failed.
        is_async: It came through the queue.
        is_truncated: It was longer than what is recorded of a run.
        unrecorded: Why its events, or those from some moment on, are not recorded; empty: they are.
        gateway: Who runs it: the node and the start of the gateway.
        key: The claim of its idempotency key; empty without one.
        expired_at: When its events were deleted after its keep time.
    """

    id: str
    function: str
    state: State
    created_at: float
    started_at: float | None = None
    first_content_at: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    tries: int = 0
    status: int = 0
    bytes: int = 0
    events: int = 0
    end_reason: str = ""
    error: str = ""
    is_async: bool = False
    is_truncated: bool = False
    unrecorded: str = ""
    usage: Usage | None = None
    gateway: str = ""
    key: str = ""
    expired_at: float | None = None

    @property
    def is_over(self) -> bool:
        return self.state in FINAL

    def moved(self, state: State, **changes: Any) -> Record:
        """The record in its next state, with other fields changed as well.

        Raises:
            IllegalState: that state cannot follow.
        """
        if state != self.state and state not in _NEXT[self.state]:
            raise IllegalState(f"run {self.id} is {self.state} and cannot become {state}")
        return replace(self, state=state, **changes)

    def expires_at(self, keep_sync_s: float, keep_async_s: float) -> float | None:
        """When its events may go: so long after its end; None while it runs, or when they are gone."""
        if self.ended_at is None or self.expired_at is not None:
            return None
        return self.ended_at + (keep_async_s if self.is_async else keep_sync_s)

    def shown(self) -> dict[str, object]:
        """The record as the API shows it: instants as RFC 3339, without what is the platform's own."""
        return {
            "id": self.id,
            "function": self.function,
            "state": self.state,
            "created_at": _instant(self.created_at),
            "started_at": _instant(self.started_at),
            "first_content_at": _instant(self.first_content_at),
            "ended_at": _instant(self.ended_at),
            "attempts": self.attempts,
            "status": self.status or None,
            "bytes": self.bytes,
            "events": self.events,
            "end_reason": self.end_reason,
            "error": self.error,
            "async": self.is_async,
            "truncated": self.is_truncated,
            "unrecorded": self.unrecorded,
            "usage": _usage(self.usage),
            "expired": self.expired_at is not None,
        }


def _usage(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "estimated": usage.is_estimated,
    }


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_record(record: Record) -> bytes:
    """The record as it is stored."""
    return msgspec.json.encode(record)


def decode_record(data: bytes) -> Record | None:
    """The record that was stored; None for what is none."""
    try:
        return msgspec.json.decode(data, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
