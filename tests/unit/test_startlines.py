"""cli.startlines: a failed start is told once."""

from __future__ import annotations

import pytest

from tailrace.cli.startlines import StartLines
from tailrace.model import LogLine
from tailrace.names import FunctionName

FN = FunctionName("stream")


def line(text: str, *, instance: str = "new", call: str = "", stream: str = "stderr") -> LogLine:
    return LogLine(FN, instance, 0, f"{text}\n", call, stream)


@pytest.fixture
def lines() -> StartLines:
    """A function whose replica `old` takes calls."""
    return StartLines(lambda _name, instance: instance == "old")


def test_everything_is_shown_while_nothing_starts(lines: StartLines) -> None:
    """Crashes and tracebacks of a function that serves are never left out."""
    assert lines.take(line("Traceback (most recent call last):"))
    assert lines.take(line("replica old died", instance="tailrace"))


def test_a_failed_start_leaves_its_traceback_to_the_outcome(lines: StartLines) -> None:
    """Neither the first try's lines nor those of its retries are shown."""
    lines.begin(FN)
    words = ["Traceback (most recent call last):", '  File "handler.py", line 1', "ImportError: x"]

    shown = [lines.take(line(text)) for text in words]
    shown.append(lines.take(line("handler could not be loaded", instance="tailrace")))

    assert not any(shown)
    assert lines.settle(FN, is_ready=False) == []
    assert not any(lines.take(line(text)) for text in words)


def test_a_traceback_of_a_start_that_worked_is_shown_late(lines: StartLines) -> None:
    """A handler may print one and go on."""
    lines.begin(FN)
    held = line("Traceback (most recent call last):")

    assert not lines.take(held)
    assert lines.settle(FN, is_ready=True) == [held]
    assert lines.take(line("after"))


@pytest.mark.parametrize(
    "shown",
    [
        line("loading the model", stream="stdout"),
        line("WARNING: slow"),
        line("Traceback (most recent call last):", call="abc"),
        line("Traceback (most recent call last):", instance="old"),
        line("installing requirements", instance="tailrace", stream="stdout"),
    ],
)
def test_what_a_person_waits_for_is_shown_at_once(lines: StartLines, shown: LogLine) -> None:
    """Progress, prints, warnings, calls, and the replica that still serves."""
    lines.begin(FN)

    assert lines.take(shown)


def test_a_retry_of_an_install_that_failed_is_not_told_again(lines: StartLines) -> None:
    """It would come with each retry, without an outcome; that one worked after all is told."""
    lines.begin(FN)
    lines.settle(FN, is_ready=False)

    installing = line("installing requirements of 'stream': nowhere", instance="tailrace", stream="stdout")
    assert not lines.take(installing)
    assert lines.take(line("environment ready in 1.0 s", instance="tailrace", stream="stdout"))


def test_new_code_forgets_what_was_held(lines: StartLines) -> None:
    """A save during a start begins anew."""
    lines.begin(FN)
    lines.take(line("Traceback (most recent call last):"))

    lines.begin(FN)

    assert lines.settle(FN, is_ready=True) == []
