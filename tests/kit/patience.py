"""Waiting for what another process does, and measuring on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], bool], what: str, limit_s: float = 10.0) -> None:
    """Return as soon as it is so; AssertionError with ``what`` when it is not within limit_s."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.005)


def best_s(measure: Callable[[], float], limit_s: float, tries: int = 5) -> float:
    """The best of some measurements in seconds; no more are made once one is within the limit.

    What is promised of a machine that has nothing else to do can be held only while that is so.
    """
    found: list[float] = []
    while len(found) < tries and not (found and found[-1] <= limit_s):
        found.append(measure())
    return min(found)
