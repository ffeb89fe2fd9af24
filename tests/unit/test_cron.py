"""Schedules: which texts are some, when they come, and what a turn of the clock calls."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tailrace.errors import InvalidDeployment
from tailrace.functions.cron import LATE_S, LOOK_S, Cron
from tailrace.functions.table import Function, Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.options import read_options
from tailrace.schedules import parse_schedule

NOON = datetime(2026, 11, 27, 12, 0, 30, tzinfo=UTC)
NAME = FunctionName("beat")


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/5 * * * *", "2026-11-27T12:05:00"), ("0 0 * * *", "2026-11-28T00:00:00"),
        ("0 9 * * 1-5", "2026-11-30T09:00:00"), ("0 0 29 2 *", "2028-02-29T00:00:00"),
        ("@hourly", "2026-11-27T13:00:00"), ("@daily", "2026-11-28T00:00:00"),
        ("@weekly", "2026-11-29T00:00:00"), ("@yearly", "2027-01-01T00:00:00"),
        ("@every 1m", "2026-11-27T12:01:00"), ("@every 1h30m", "2026-11-27T13:30:00"),
        ("0 0 * * *; @every 10m", "2026-11-27T12:10:00"), (" @midnight ; ", "2026-11-28T00:00:00"),
        ("*/59 * * * *", "2026-11-27T12:59:00"), ("0-30/15,45 * * * *", "2026-11-27T12:15:00"),
        ("0 0 * jan-FEB mon,Fri", "2027-01-01T00:00:00"), ("0 0 * * 7", "2026-11-29T00:00:00"),
        ("0 0 1,15 * 1", "2026-11-30T00:00:00"), ("0 0 */7 * 1", "2027-02-01T00:00:00"),
    ],
)  # fmt: skip
def test_a_schedule_says_when_it_comes_next(text: str, expected: str) -> None:
    assert at(expected) == parse_schedule(text).next_after(NOON)


@pytest.mark.parametrize(
    "text",
    ["", " ", ";",
     "* * * *", "* * * * * * *", "61 * * * *", "* 24 * * *", "0 0 30 2 *", "@often", "@every", "@every x",
     "0 */5 * * * *", "*/61 * * * *", "*/60 * * * *", "*/0 * * * *", "0 */24 * * *", "0 0 */32 * *",
     "0 0 * */13 *", "0 0 * * */8", "*/5/2 * * * *", "*/ * * * *", "0 0 * * SUN#2", "0 0 L * *", "0 0 LW * *",
     "0 0 * * 5L", "1, * * * *", "@every 0s", "@every 10ms", "@every 9999h",
     "a b c d e", "* * * * *;x", ";".join(["@hourly"] * 17)],
)  # fmt: skip
def test_what_is_no_schedule_refuses_the_deployment(text: str) -> None:
    """The text is quoted with what was expected."""
    with pytest.raises(InvalidDeployment, match="annotation 'schedule': '"):
        read_options({"topic": "cron-function", "schedule": text}, {}, {})


def test_only_the_cron_topic_makes_a_schedule_count() -> None:
    """Other connectors have annotations of that name too."""
    assert read_options({"topic": "orders", "schedule": "x"}, {}, {}).schedule is None
    assert read_options({"topic": "orders, cron-function", "schedule": "@daily"}, {}, {}).schedule is not None


def test_the_cron_topic_alone_is_told_what_is_missing() -> None:
    with pytest.raises(InvalidDeployment, match="no annotation 'schedule'") as refused:
        read_options({"topic": "cron-function"}, {}, {})

    assert "schedule: '*/5 * * * *'" in refused.value.text


def test_seconds_are_told_not_to_be_a_field() -> None:
    with pytest.raises(ValueError, match="6 fields, seconds are not among them"):
        parse_schedule("0 */5 * * * *")


class Bench:
    """A cron over a table with one function, on a clock that is moved by hand."""

    def __init__(self, schedule: str = "@every 1m", **annotations: str) -> None:
        self.table = Table()
        self.told: list[str] = []
        self.cron = Cron(self.table, self._call, lambda _, text: self.told.append(text))
        self.deploy(schedule, **annotations)

    def deploy(self, schedule: str, **annotations: str) -> None:
        wishes = {"topic": "cron-function", "schedule": schedule, **annotations}
        self.table.add(Function(FunctionSpec(NAME, "i", "0" * 64, annotations=wishes), lambda: None))

    async def _call(self, name: FunctionName, moment: datetime) -> str:
        return ""

    def due(self, moment: datetime) -> int:
        return len(self.cron.turn(moment).due)


def test_a_function_is_called_once_at_each_moment() -> None:
    """Not at its deployment, not before, not twice."""
    bench = Bench()
    seconds = (0, 29.9, 30, 30.5, 89.9, 91, 150)

    called = [bench.due(NOON + timedelta(seconds=s)) for s in seconds]

    assert [0, 0, 1, 0, 0, 1, 1] == called


def test_moments_that_were_slept_through_are_not_made_up_for() -> None:
    """A late one is called within half a minute, else missed and told; the next one comes as ever."""
    bench = Bench()
    bench.due(NOON)

    late = bench.cron.turn(NOON + timedelta(seconds=30 + LATE_S))
    missed = bench.cron.turn(NOON + timedelta(hours=8))

    assert (1, 0) == (len(late.due), len(late.skipped))
    assert (0, 1) == (len(missed.due), len(missed.skipped))
    assert "was missed" in missed.skipped[0][1]
    assert 1 == bench.due(NOON + timedelta(hours=8, seconds=31))


def test_a_clock_that_is_set_back_leaves_no_function_waiting_for_years() -> None:
    """A machine begins with a wrong year, until it is told; a step of a moment calls nobody twice."""
    bench = Bench()
    bench.due(NOON + timedelta(days=2000))
    bench.due(NOON)

    called = [bench.due(NOON + timedelta(seconds=s)) for s in (29, 30, 29.9, 30.1, 90)]

    assert [0, 1, 0, 0, 1] == called


def test_a_clock_that_is_set_back_by_an_hour_calls_nobody_twice() -> None:
    """What was called is called; the next moment is the one after it."""
    bench = Bench("@hourly")
    bench.due(at("2026-11-27T09:59:00"))

    called = [
        bench.due(at(f"2026-11-27T{time}:00")) for time in ("10:00", "09:10", "10:00", "10:59", "11:00")
    ]

    assert [1, 0, 0, 0, 1] == called


def test_an_interval_of_any_length_goes_on() -> None:
    """No rounding gives a moment back as the one after itself."""
    schedule, moment = parse_schedule("@every 1.1s"), NOON
    for _ in range(100):
        later = schedule.next_after(moment)
        assert moment < later <= moment + timedelta(seconds=1.1)
        moment = later


def test_a_new_schedule_counts_from_its_deployment_and_a_removed_function_is_forgotten() -> None:
    bench = Bench("@every 1h")
    bench.due(NOON)
    bench.deploy("@every 10s")

    changed = [bench.due(NOON + timedelta(seconds=s)) for s in (1, 11)]
    bench.table.remove(NAME)
    removed = [bench.due(NOON + timedelta(seconds=s)) for s in (21, 3600)]

    assert ([0, 1], [0, 0]) == (changed, removed)


def test_it_looks_again_when_the_next_one_is_due_or_after_a_second() -> None:
    assert LOOK_S == Bench("@daily").cron.turn(NOON).wait_s
    assert 0.25 == Bench("@every 1m").cron.turn(NOON + timedelta(seconds=29.75)).wait_s


@pytest.mark.parametrize(("overlap", "begun"), [("skip", 1), ("allow", 3)])
def test_a_call_that_still_runs_holds_the_next_one_back(overlap: str, begun: int) -> None:
    """Unless the function allows both."""

    async def main() -> None:
        over = asyncio.Event()
        calls: list[FunctionName] = []

        async def call(name: FunctionName, moment: datetime) -> str:
            calls.append(name)
            await over.wait()
            return "answered 500"

        bench = Bench("@every 1s", **{"com.tailrace.cron.overlap": overlap})
        moments = iter(NOON + timedelta(seconds=s) for s in (0, 1, 2, 3, 3.5, 3.6))
        looked = asyncio.Event()

        def clock() -> datetime:
            moment = next(moments, None)
            if moment is None:
                looked.set()
                return NOON + timedelta(seconds=3.6)
            return moment

        cron = Cron(bench.table, call, lambda _, text: bench.told.append(text), clock=clock)
        running = asyncio.ensure_future(cron.run())
        await asyncio.wait_for(looked.wait(), 10)
        over.set()
        for _ in range(5):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert begun == len(calls)
        assert 3 - begun == sum("still runs" in text for text in bench.told)
        assert "cron: answered 500\n" in bench.told

    asyncio.run(main())
