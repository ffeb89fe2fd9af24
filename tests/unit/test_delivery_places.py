"""Places for results that are sent: bounded per host, in bytes, and waiting for one is no try."""

from __future__ import annotations

from contextlib import ExitStack

from tailrace.queue.places import HELD_BYTES, MAX_WAIT_S, PER_HOST, Places

MIB = 1024 * 1024


def test_a_host_has_so_many_places() -> None:
    """One more has none; another host has; one that is left is free again."""
    places = Places()
    with ExitStack() as held:
        taken = [held.enter_context(places.take("a:1", 0)) for _ in range(PER_HOST + 1)]
        with places.take("a:2", 0) as other:
            assert other
    with places.take("a:1", 0) as again:
        assert again

    assert [True] * PER_HOST + [False] == taken


def test_the_bytes_that_are_held_are_bounded() -> None:
    """Of a result that was longer than what is recorded only that counts."""
    places, largest = Places(), HELD_BYTES // (4 * MIB)
    with ExitStack() as held:
        taken = [held.enter_context(places.take(f"h{n}", 100 * MIB)) for n in range(largest + 1)]

    assert [True] * largest + [False] == taken


def test_what_was_handed_back_was_not_tried() -> None:
    """It waits the longer the more wait, and its tries are those that were made."""
    places = Places()
    waits = [places.hand_back(f"call-{n}") for n in range(10_000)]
    waits += [places.hand_back("call-0") for _ in range(4)]

    assert 1 == places.tries_of("call-0", 6)
    assert 2 == places.tries_of("call-1", 3)
    assert max(waits[:10]) < 2
    assert 5 < max(waits) <= MAX_WAIT_S
    places.forget("call-0")
    assert 6 == places.tries_of("call-0", 6)
