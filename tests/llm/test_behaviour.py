"""behaviour: the mock's knobs, wherever they are written."""

from __future__ import annotations

import pytest

from tailrace.errors import InvalidRequest
from tailrace.llm.behaviour import KNOBS, Behaviour, change_by_body, change_by_model


def test_a_model_name_changes_what_it_names_and_keeps_the_rest() -> None:
    """The query of a model name lies over the server's own behaviour."""
    base = Behaviour(ttft_s=1, tps=5)

    changed = change_by_model(base, "mock?tps=20&tokens=30&reset_after=5")

    assert Behaviour(ttft_s=1, tps=20, tokens=30, reset_after=5) == changed
    assert base == change_by_model(base, "gpt-4o-mini")


def test_a_body_takes_numbers_texts_and_booleans() -> None:
    """JSON's own types are as good as texts; null is not given."""
    extra = {"ttft": 0.5, "tokens": "3", "early_head": True, "stall_after": None}

    changed = change_by_body(Behaviour(), extra)

    assert Behaviour(ttft_s=0.5, tokens=3, early_head=True) == changed


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("mock?tpss=2", "unknown key 'tpss'; known keys: ttft, tps,"),
        ("mock?tps=-1", "tps=-1 is not tokens per second from 0 to 100000"),
        ("mock?tps=nan", "tps=nan is not"),
        ("mock?ttft=1e99", "ttft=1e99 is not seconds from 0 to 3600"),
        ("mock?tokens=1.5", "tokens=1.5 is not a whole number from 0 to 1000000"),
        ("mock?tokens=٣", "is not a whole number"),
        ("mock?status=200", "status=200 is not an HTTP status from 400 to 599"),
        ("mock?tps=1&tps=2", "a key stands twice"),
        ("mock?tps", "no query of key=value pairs"),
    ],
)
def test_a_wrong_knob_is_refused_with_what_was_expected(model: str, told: str) -> None:
    """A typing error never silently means the default."""
    with pytest.raises(InvalidRequest) as refused:
        change_by_model(Behaviour(), model)

    assert told in refused.value.text


def test_an_unknown_key_names_the_nearest() -> None:
    """The person sees what was probably meant."""
    with pytest.raises(InvalidRequest, match="unknown key 'reset_afer'") as refused:
        change_by_body(Behaviour(), {"reset_afer": 5})

    assert refused.value.hint == "Did you mean 'reset_after'?"


@pytest.mark.parametrize("extra", [[], "tps=1", {"tps": [1]}])
def test_a_body_of_another_shape_is_refused(extra: object) -> None:
    """Only an object of plain values can hold wishes."""
    with pytest.raises(InvalidRequest):
        change_by_body(Behaviour(), extra)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (Behaviour(), ("finish", 10)),
        (Behaviour(stall_after=5, reset_after=3), ("reset", 3)),
        (Behaviour(reset_after=10), ("reset", 10)),
        (Behaviour(reset_after=11), ("finish", 10)),
        (Behaviour(error_after=0), ("error", 0)),
    ],
)
def test_the_earliest_fault_ends_an_answer(behaviour: Behaviour, expected: tuple[str, int]) -> None:
    """Of several faults the first to be reached happens; one beyond the answer's end never does."""
    assert expected == behaviour.end(10)


def test_every_knob_sets_a_field_of_its_own() -> None:
    """No two rows fight over a field, and none is without."""
    assert sorted(Behaviour.__slots__) == sorted(knob.field for knob in KNOBS)
