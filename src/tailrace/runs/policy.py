"""What becomes of a run that nobody watches: decided here, done by whoever runs it. Pure.

``cancel`` ends it, ``grace:10s`` ends it unless somebody comes back in time, ``continue`` lets it go on. A
function's annotation is the most that a caller may choose; less is always allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tailrace.errors import InvalidRequest
from tailrace.options import parse_grace


@dataclass(frozen=True, slots=True, order=True)
class Policy:
    """How long a run may go on without anybody: 0 not at all, infinite: to its end."""

    grace_s: float

    def __str__(self) -> str:
        if not self.grace_s:
            return "cancel"
        return "continue" if self.grace_s == math.inf else f"grace:{self.grace_s:g}s"


CANCEL = Policy(0.0)
CONTINUE = Policy(math.inf)
# What a recorded call has whose function says nothing: long enough for a reload of the page.
RECORDED = Policy(10.0)


def chosen_policy(annotated_s: float | None, asked: str, *, is_async: bool) -> Policy:
    """What a recorded call has: what its caller asks for, within what its function allows.

    Args:
        annotated_s: The function's own grace, seconds; None when it says nothing.
        asked: ``X-Tailrace-On-Disconnect``; empty without it.
    Raises:
        InvalidRequest: it is no policy, or lets the run go on for longer than the function does.
    """
    most = Policy(annotated_s) if annotated_s is not None else (CONTINUE if is_async else RECORDED)
    if not asked:
        return most
    grace_s = parse_grace(asked)
    if grace_s is None:
        raise InvalidRequest(
            f"X-Tailrace-On-Disconnect: {asked[:40]} is none of cancel, continue, grace:DURATION"
        )
    if grace_s > most.grace_s:
        raise InvalidRequest(
            f"X-Tailrace-On-Disconnect: {asked[:40]} is more than the function allows, which is {most}",
            hint="Its annotation com.tailrace.on-disconnect says how much it allows.",
        )
    return Policy(grace_s)


class Attendance:
    """Who watches one run, and since when nobody does.

    The first client counts as one. Each time the last one leaves, the policy is asked once.
    """

    __slots__ = ("_elsewhere", "_here", "_policy")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._here = 0
        # Gateways whose viewers watch, and until when that is believed without hearing it again.
        self._elsewhere: dict[str, float] = {}

    @property
    def count(self) -> int:
        """Viewers here, and other gateways that have some."""
        return self._here + len(self._elsewhere)

    def join(self) -> None:
        """One more watches here."""
        self._here += 1

    def leave(self) -> bool:
        """One less watches here; whether that was the last one."""
        self._here -= 1
        return not self.count

    def heard(self, gateway: str, *, viewers: int, until: float) -> bool:
        """Another gateway has so many viewers; whether the last one has left with this."""
        had = self.count
        if viewers:
            self._elsewhere[gateway] = until
        else:
            self._elsewhere.pop(gateway, None)
        return bool(had) and not self.count

    def forget_silent(self, now: float) -> bool:
        """Drop gateways that were not heard in time; whether the last viewer has left with this."""
        had = self.count
        for gateway in [name for name, until in self._elsewhere.items() if now >= until]:
            del self._elsewhere[gateway]
        return bool(had) and not self.count

    def ends_at(self, now: float) -> float:
        """When a run that everybody has left now is to end; infinite: not for that."""
        return now + self._policy.grace_s
