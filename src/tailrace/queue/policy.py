"""Whether a call is tried again, and when. Pure but for chance and time, which are passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from tailrace.queue.calls import Outcome, QueuedCall
from tailrace.retries import Retries
from tailrace.settings import Settings

# `over`: its record is final. `busy`: somebody else has it. `again`: later. `give_up`: never.
Verdict = Literal["over", "busy", "again", "give_up"]
# A function that asks for more than this is waited for so long.
LONGEST_WAIT_S = 3600.0
# Statuses of ours below 500 that pass by themselves.
_PASSING = (408, 429)


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one function's calls: its annotations, else the settings."""

    attempts: int
    codes: frozenset[int]
    min_wait_s: float
    max_wait_s: float
    after_first_byte: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A call that a worker asks a gateway to make once: `caller.Caller.call`."""

    call: QueuedCall
    body: bytes
    policy: Policy


def policy_of(retries: Retries, settings: Settings) -> Policy:
    """What a function says, completed by the settings."""
    min_s = settings.async_retry_min_wait_s if retries.min_wait_s is None else retries.min_wait_s
    max_s = settings.async_retry_max_wait_s if retries.max_wait_s is None else retries.max_wait_s
    return Policy(
        settings.async_retry_attempts if retries.attempts is None else retries.attempts,
        retries.codes,
        min_s,
        max(min_s, max_s),
        retries.after_first_byte,
    )


def judge(outcome: Outcome, policy: Policy) -> Verdict:
    """What follows a try."""
    if outcome.is_busy:
        return "busy"
    if outcome.state in ("done", "failed", "cancelled"):
        return "over"
    if outcome.is_begun and not policy.after_first_byte:
        return "give_up"
    if not _may_pass(outcome, policy) or outcome.tries >= policy.attempts:
        return "give_up"
    return "again"


def _may_pass(outcome: Outcome, policy: Policy) -> bool:
    """Whether another try may end better."""
    status = outcome.status
    if status in policy.codes or status < 400:  # below: it broke after its head, or without one
        return True
    return outcome.is_ours and (status >= 500 or status in _PASSING)


def wait_s(policy: Policy, tries: int, asked_s: float | None, chance: float) -> float:
    """Seconds until the next try: full jitter below a bound that doubles; never less than was asked for.

    Args:
        tries: How many there were.
        asked_s: What ``Retry-After`` says; None without it.
        chance: From 0 to 1.
    """
    doubled = policy.min_wait_s * 2.0 ** min(max(tries - 1, 0), 40)
    wait = chance * min(policy.max_wait_s, doubled)
    return max(wait, min(asked_s, LONGEST_WAIT_S)) if asked_s is not None else wait


def read_retry_after(text: str, now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for; None when it says nothing that can be followed.

    Args:
        now: Seconds since 1970.
    Source: RFC 9110 section 10.2.3.
    """
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, at - now) if math.isfinite(at) else None
