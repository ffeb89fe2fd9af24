"""What ``tailrace queue list`` prints."""

from __future__ import annotations

from tailrace.cli.commands.queue import tables
from tailrace.wire.queue import DeadCall, QueueListing


def test_an_error_that_is_cut_says_so() -> None:
    """Sixty characters are shown, the last three of what is longer are dots; its first line only."""
    errors = ("x" * 60, "y" * 61, "short\nmore")
    dead = [DeadCall("call", f"id{n}", "fn", "default", "", e, 1, "") for n, e in enumerate(errors)]
    lines = tables(QueueListing([], dead, len(dead))).splitlines()

    assert ["x" * 60, "y" * 57 + "...", "short"] == [line.split()[-1] for line in lines[1:]]


def test_results_that_wait_are_told() -> None:
    """Also where nothing else is to be told."""
    assert "results that wait to be delivered: 3" == tables(QueueListing([], [], 0, 3))
