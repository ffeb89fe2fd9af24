"""The plan, row by row: what is wished, what is there, what is done."""

from __future__ import annotations

import pytest

from tailrace.functions.plan import (
    Action,
    Drain,
    ReplicaView,
    Retry,
    Start,
    Stop,
    View,
    plan,
    retry_delay_s,
)


def replica(spec: str) -> ReplicaView:
    """``a:new:ready:2`` as a view."""
    name, revision, state, in_flight = spec.split(":")
    assert state in ("starting", "ready", "draining", "stopping")
    return ReplicaView(name, revision, state, int(in_flight))  # type: ignore[arg-type]  # checked above


@pytest.mark.parametrize(
    ("revision", "wished", "replicas", "actions"),
    [
        ("new", 1, [], [Start(1)]),
        ("new", 3, ["a:new:ready:0"], [Start(2)]),
        ("new", 1, ["a:new:starting:0"], []),
        ("new", 1, ["a:new:ready:5"], []),
        # An update: the old one answers until the new one can.
        ("new", 1, ["a:old:ready:1"], [Start(1)]),
        ("new", 1, ["a:old:ready:1", "b:new:starting:0"], []),
        ("new", 1, ["a:old:ready:1", "b:new:ready:0"], [Drain("a")]),
        ("new", 1, ["a:old:draining:1", "b:new:ready:0"], []),
        ("new", 1, ["a:old:draining:0", "b:new:ready:0"], [Stop("a")]),
        ("new", 1, ["a:old:starting:0"], [Start(1), Stop("a")]),
        # Fewer wished: the idle one goes, one that starts first of all.
        ("new", 1, ["a:new:ready:5", "b:new:ready:0"], [Drain("b")]),
        ("new", 1, ["a:new:ready:0", "b:new:starting:0"], [Stop("b")]),
        # Removed: what runs finishes.
        ("", 1, ["a:old:ready:1", "b:old:starting:0"], [Drain("a"), Stop("b")]),
        ("", 1, ["a:old:stopping:0"], []),
    ],
)
def test_the_plan_takes_the_next_step(
    revision: str, wished: int, replicas: list[str], actions: list[Action]
) -> None:
    """Each row is one look at a function."""
    view = View(revision, wished, [replica(r) for r in replicas])

    assert actions == plan(view, 100.0)


def test_after_a_failure_nothing_starts_before_its_time() -> None:
    """The plan asks to be called again instead."""
    view = View("new", 1, [], retry_at=105.0)

    assert plan(view, 100.0) == [Retry(105.0)]
    assert plan(view, 105.0) == [Start(1)]


def test_the_first_three_retries_come_within_a_second_each() -> None:
    """Then patience grows to half a minute."""
    delays = [retry_delay_s(n) for n in range(1, 12)]

    assert all(delay <= 1.0 for delay in delays[:3])
    assert delays == sorted(delays)
    assert delays[-1] == 30.0
