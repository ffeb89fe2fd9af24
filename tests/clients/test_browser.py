"""The streams in Chromium: its own EventSource, and fetch-event-source, which needs a page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.kit import streams
from tests.kit.clients import Outcome, Reading, read_in_browser
from tests.kit.scripted import Script, ScriptedServer, scripted_server
from tests.kit.streams import KINDS, SINGLE, TEXTS, Case

pytestmark = pytest.mark.slow


def _read(client: str, cases: dict[str, Case]) -> dict[str, Outcome]:
    with scripted_server(streams.scripts(cases)) as server:
        return read_in_browser(server, {name: Reading(client, server.url_of(name)) for name in cases})


def test_eventsource_dispatches_exactly_the_events_that_were_sent() -> None:
    """Every dialect, heartbeat and end; an `event: error` arrives with its data, a cut without any."""

    def outcome(case: Case) -> object:
        ended = streams.eventsource_ends(case)
        return {"opened": True, "events": streams.events_of(case), "ended": ended}

    cases = streams.cases()

    outcomes = _read("eventsource", cases)

    assert streams.expected(cases, outcome) == streams.told_of(cases, outcomes, "opened", "events", "ended")


def test_heartbeats_leave_the_last_event_id_alone() -> None:
    """What a browser would resume from is the id of the last event, whatever came between."""
    cases = {name: case for name, case in streams.cases("native-ids").items() if case.end == "clean"}

    outcomes = _read("eventsource", cases)

    ids = [*(f"run-{at}" for at in range(len(TEXTS))), "run-end"]
    assert dict.fromkeys(cases, ids) == {name: told["ids"] for name, told in outcomes.items()}


def _fetched(case: Case) -> object:
    """What fetch-event-source should make of a stream."""
    ended = "failed: network error" if case.end == "cut" else "closed"
    return {"events": streams.events_of(case), "ended": ended}


def test_fetch_event_source_reads_every_stream_when_no_empty_line_follows_a_heartbeat() -> None:
    """Then it is exact; with an empty line, each heartbeat is a message to it."""
    cases = streams.cases(forms=(SINGLE,))

    outcomes = _read("fetched", cases)

    assert streams.expected(cases, _fetched) == streams.told_of(cases, outcomes)


def test_fetch_event_source_sees_other_heartbeats_as_messages_without_data() -> None:
    """Which an application must pass over (docs/explanation/clients.md); all else it reads."""
    cases = streams.cases("native")

    outcomes = _read("fetched", cases)

    passed_over = {name: {**told, "events": _with_data(told)} for name, told in outcomes.items()}
    assert streams.expected(cases, _fetched) == streams.told_of(cases, passed_over)
    assert len(_with_data(outcomes["native.many.clean"])) + 6 == _count(outcomes["native.many.clean"])


def _with_data(told: Outcome) -> list[object]:
    events = told["events"]
    assert isinstance(events, list), events
    return [event for event in events if event != ["message", ""]]


def _count(told: Outcome) -> int:
    events = told["events"]
    assert isinstance(events, list), events
    return len(events)


# How a stream's first event asks a browser to come back after a millisecond instead of three seconds.
SOON = b"retry: 1\n\n"


def _soon(kind: str, *, end: bool) -> Script:
    body = [block for block, _ in (*KINDS[kind].body, *(KINDS[kind].close if end else ()))]
    return Script((SOON, *body), is_cut=not end)


def _asked_ids(server: ScriptedServer, name: str) -> list[str | None]:
    return [one.headers.get("last-event-id") for one in server.of(name)]


def test_a_cut_stream_is_asked_for_again_from_its_last_event_until_a_204() -> None:
    """EventSource comes back with Last-Event-ID where there were ids, and stays away after 204."""
    scripts = {name: _soon(name, end=False) for name in ("native-ids", "native")}

    with scripted_server(scripts, repeats=1) as server:
        readings = {name: Reading("resumed", server.url_of(name)) for name in scripts}
        outcomes = read_in_browser(server, readings)
        asked = {name: _asked_ids(server, name) for name in scripts}

    # One error when the connection broke, one when 204 closed the source.
    assert {name: {"data": list(TEXTS), "errors": 2, "ended": "closed"} for name in scripts} == outcomes
    assert {"native-ids": [None, f"run-{len(TEXTS) - 1}"], "native": [None, None]} == asked


def test_a_page_that_closes_at_the_end_event_is_not_heard_of_again() -> None:
    """One that does not close asks again, which without a record starts the function anew."""
    scripts = {"closes": _soon("native", end=True), "stays": _soon("native", end=True)}

    with scripted_server(scripts, repeats=1) as server:
        # The second reading is over only after its browser came back, which the first had more time for.
        closes = Reading("eventsource", server.url_of("closes"))
        outcomes = read_in_browser(
            server, {"closes": closes, "stays": Reading("resumed", server.url_of("stays"))}
        )
        asked = {name: len(server.of(name)) for name in scripts}

    assert ("end", "closed") == tuple(outcomes[name]["ended"] for name in scripts)
    assert {"closes": 1, "stays": 2} == asked


def test_a_reset_is_noticed_as_a_cut_is() -> None:
    """A connection that is torn down by RST looks like one that is closed too soon."""
    case = streams.cases("native")["native.none.cut"]
    case = replace(case, script=replace(case.script, is_cut=False, is_reset=True))

    outcomes = _read("eventsource", {"reset": case})

    assert ("reset", "reconnecting") == ("reset", outcomes["reset"]["ended"])
