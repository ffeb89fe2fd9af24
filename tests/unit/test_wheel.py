"""edge.wheel: one timer, many deadlines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tailrace.edge.wheel import TICK_S, Wheel
from tests.kit.loops import run


class Entry:
    """Remembers when it was looked at, and asks to be looked at again at its next deadline."""

    def __init__(self, deadlines: list[float]) -> None:
        self.due_at = math.inf
        self.deadlines = sorted(deadlines)
        self.looked_at: list[float] = []

    def on_clock(self, now: float) -> float:
        self.looked_at.append(now)
        return next((at for at in self.deadlines if at > now), math.inf)


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def with_wheel(act: Callable[[Wheel, Clock], None]) -> None:
    async def main() -> None:
        clock = Clock()
        wheel = Wheel(asyncio.get_running_loop(), clock)
        act(wheel, clock)
        wheel.close()

    run(main())


@given(st.lists(st.lists(st.floats(0.001, 20), min_size=1, max_size=5), min_size=1, max_size=8))
def test_no_deadline_is_missed_and_none_is_early(every: list[list[float]]) -> None:
    """Each entry is looked at within a tick after each of its deadlines that it asked for."""

    def act(wheel: Wheel, clock: Clock) -> None:
        entries = [Entry([100.0 + at for at in deadlines]) for deadlines in every]
        for entry in entries:
            wheel.look_by(entry, entry.deadlines[0])
        while clock.now < 121:
            clock.now += TICK_S
            wheel.turn()

        for entry in entries:
            assert entry.looked_at[0] >= entry.deadlines[0] - 1e-6
            assert entry.looked_at[0] <= entry.deadlines[0] + 2.1 * TICK_S
            assert entry.looked_at[-1] >= entry.deadlines[-1] - 1e-6
            assert entry.due_at == math.inf

    with_wheel(act)


def test_an_earlier_moment_moves_an_entry_and_a_later_one_does_not() -> None:
    """Idle for a minute, then a call with a clock of a second."""

    def act(wheel: Wheel, clock: Clock) -> None:
        entry = Entry([])
        wheel.look_by(entry, 160.0)
        wheel.look_by(entry, 101.0)
        wheel.look_by(entry, 130.0)
        clock.now = 101.1
        wheel.turn()

        assert entry.looked_at == [101.1]

    with_wheel(act)


def test_a_forgotten_entry_is_never_looked_at() -> None:
    """Its connection is gone."""

    def act(wheel: Wheel, clock: Clock) -> None:
        entry = Entry([])
        wheel.look_by(entry, 101.0)
        wheel.forget(entry)
        clock.now = 200.0
        wheel.turn()

        assert entry.looked_at == []

    with_wheel(act)


def test_the_timer_turns_the_wheel() -> None:
    """With the real clock, without anybody calling `turn`."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wheel = Wheel(loop, loop.time)
        looked = asyncio.Event()

        class Waiting(Entry):
            def on_clock(self, now: float) -> float:
                looked.set()
                return super().on_clock(now)

        wheel.look_by(Waiting([]), loop.time() + 0.05)
        await asyncio.wait_for(looked.wait(), 5)
        wheel.close()

    run(main())


def test_a_look_that_fails_stops_no_other_clock() -> None:
    """It is told of, and looked at again; the entries beside and after it have their turns."""

    class Broken(Entry):
        def on_clock(self, now: float) -> float:
            super().on_clock(now)
            raise RuntimeError("a fault of ours")

    told: list[str] = []

    def act(wheel: Wheel, clock: Clock) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        broken, beside, after = Broken([]), Entry([]), Entry([])
        wheel.look_by(broken, 101.0)
        wheel.look_by(beside, 101.0)
        wheel.look_by(after, 102.0)
        for _ in range(3):
            clock.now += 1.1
            wheel.turn()
        assert len(broken.looked_at) == 3
        assert len(beside.looked_at) == len(after.looked_at) == 1

    with_wheel(act)
    assert told == ["a look at a call failed"] * 3
