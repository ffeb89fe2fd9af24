"""Which replicas to start, drain and stop: one pure function over what is wished and what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ReplicaState = Literal["starting", "ready", "draining", "stopping"]

# A crash is usually transient or a typing error just being mended: three quick tries, then patience.
QUICK_TRIES = 3
QUICK_CAP_S = 1.0
PATIENT_CAP_S = 30.0
# A replica that was ready this long has proven its revision; its end does not count as a crash loop.
PROVEN_S = 10.0


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """What the plan knows of one replica."""

    id: str
    revision: str
    state: ReplicaState
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """One function's wish and reality. ``revision`` is empty once the function is removed."""

    revision: str
    wished: int
    replicas: Sequence[ReplicaView]
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start this many replicas of the wished revision."""

    count: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Give the replica no new calls; stop it when its last call ends."""

    id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the replica now: it has no calls."""

    id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Nothing to do before this moment (monotonic seconds)."""

    at: float


Action = Start | Drain | Stop | Retry


def plan(view: View, now: float) -> list[Action]:
    """The actions that bring reality nearer to the wish.

    An older revision keeps answering until the wished one has all its replicas ready, so a deployment
    that cannot start takes nothing away; calls that run on it finish there.
    """
    current = [r for r in view.replicas if r.revision == view.revision and r.state in ("starting", "ready")]
    ready = sum(r.state == "ready" for r in current)
    actions: list[Action] = []
    missing = view.wished - len(current) if view.revision else 0
    if missing > 0:
        actions.append(Start(missing) if now >= view.retry_at else Retry(view.retry_at))
    surplus = sorted(current, key=lambda r: (r.state == "ready", r.in_flight))[: max(0, -missing)]
    for replica in view.replicas:
        outdated = replica.revision != view.revision
        if replica.state == "draining":
            if not replica.in_flight:
                actions.append(Stop(replica.id))
        elif replica.state == "starting" and (outdated or replica in surplus):
            actions.append(Stop(replica.id))
        elif replica.state == "ready" and (
            replica in surplus or (outdated and (not view.revision or ready >= view.wished))
        ):
            actions.append(Drain(replica.id))
    return actions


def retry_delay_s(failures: int) -> float:
    """Seconds to wait after this many failures in a row (1 is the first)."""
    if failures <= QUICK_TRIES:
        return min(0.25 * 2.0 ** (failures - 1), QUICK_CAP_S)
    return min(2.0 ** (failures - QUICK_TRIES), PATIENT_CAP_S)
