"""durations: durations as Go writes them."""

from __future__ import annotations

import pytest

from tailrace.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("250ms", 0.25),
        ("2us", 2e-6),
        ("2µs", 2e-6),
        ("3ns", 3e-9),
        ("1h2m3s4ms", 3723.004),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    """As Go's time.ParseDuration does."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "5d", "-5m", "5m ", "1h30", ".s", "५m", "1e3s"])
def test_anything_else_is_no_duration(text: str) -> None:
    """A number without its unit is not guessed at."""
    assert parse_duration(text) is None
