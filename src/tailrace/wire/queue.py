"""The queue as the API shows it."""

from __future__ import annotations

import msgspec


class WaitingCalls(msgspec.Struct, frozen=True):
    """One function's calls in one queue: those that wait, and those that are made or wait for a next try."""

    queue: str
    function: str
    waiting: int
    handed_out: int


class DeadCall(msgspec.Struct, frozen=True):
    """A call that was given up (``kind`` call), or the delivery of its result (callback)."""

    kind: str
    id: str
    function: str
    queue: str
    reason: str
    error: str
    tries: int
    died_at: str
    accepted_at: str | None = None
    target: str = ""
    body_bytes: int = 0
    callback_url: str = ""


class QueueListing(msgspec.Struct, frozen=True):
    """What waits and what was given up: the oldest of ``dead_total``.

    Attributes:
        results_waiting: Results that are to be delivered, those counted that are being sent.
    """

    waiting: list[WaitingCalls]
    dead: list[DeadCall]
    dead_total: int
    results_waiting: int = 0


class CallbackKey(msgspec.Struct, frozen=True):
    """The secret that results are signed with.

    Attributes:
        store: Tells the gateway's NATS from others; empty when it does not answer.
    """

    secret: str
    store: str = ""
