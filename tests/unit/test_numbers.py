"""What the edge counts is what happened."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.edge.numbers import (
    CALL_SECONDS,
    CODES_LIMIT,
    EVENT_GAP_SECONDS,
    FIRST_CONTENT_SECONDS,
    OTHER_CODE,
    FunctionNumbers,
    Histogram,
    Numbers,
)

BOUNDS = (CALL_SECONDS, FIRST_CONTENT_SECONDS, EVENT_GAP_SECONDS)


@given(
    st.sampled_from(BOUNDS).flatmap(
        lambda bounds: st.tuples(
            st.just(bounds),
            st.lists(st.one_of(st.floats(0, 1000), st.sampled_from(bounds))),  # a bound itself, too
        )
    )
)
def test_a_histogram_counts_like_a_naive_count(case: tuple[tuple[float, ...], list[float]]) -> None:
    """Below each bound lie the values that are at most the bound."""
    bounds, values = case
    histogram = Histogram(bounds)

    for value in values:
        histogram.observe(value)

    naive = [sum(value <= bound for value in values) for bound in bounds]
    assert naive == [sum(histogram.counts[: n + 1]) for n in range(len(bounds))]
    assert len(values) == histogram.count
    assert sum(values) == pytest.approx(histogram.total)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    """Bisecting needs it."""
    assert sorted(set(bounds)) == list(bounds)


def test_time_to_first_token_is_told_closely() -> None:
    """From 100 ms to 5 s each bound is at most 1.5 times the one before."""
    seen = [bound for bound in FIRST_CONTENT_SECONDS if 0.1 <= bound <= 5]

    assert max(b / a for a, b in itertools.pairwise(seen)) <= 1.5


def test_a_function_cannot_make_series_without_end() -> None:
    """A function that answers with every status is counted under a bounded number of them."""
    numbers = FunctionNumbers()

    for status in range(100, 1000):
        numbers.end(status, "done", 0.1)

    assert CODES_LIMIT + 1 == len(numbers.codes)
    assert 900 - CODES_LIMIT == numbers.codes[OTHER_CODE].count
    assert {"done": 900} == dict(numbers.ends)


def test_a_removed_function_begins_anew() -> None:
    """Its numbers are dropped; calls that still run count into what nobody reads."""
    numbers = Numbers()
    old = numbers.of("fn.openfaas-fn")

    numbers.forget("fn.openfaas-fn")
    old.started += 1

    assert numbers.of("fn.openfaas-fn") is not old
    assert 0 == numbers.of("fn.openfaas-fn").started
