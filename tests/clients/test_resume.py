"""Tailrace's own clients against a real gateway, through a proxy that cuts, stalls and delays."""

from __future__ import annotations

import json
import random
from collections import deque
from pathlib import Path

import pytest

from tests.kit.cutter import Fault, cutter
from tests.kit.gateway import Town, running_town
from tests.kit.resuming import CLIENTS, OPENAI, TELLER, ClientName, Reading, read, starts, told
from tests.kit.runs import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("client", CLIENTS)]


@pytest.fixture(scope="module")
def town(recording_town: Town) -> Town:
    """A gateway that keeps runs, with the teller in both dialects."""
    for name, source, lang in (("teller", TELLER, "python3-stream"), ("openai", OPENAI, "python3-flask")):
        status = recording_town.deploy(name, source, lang=lang)
        assert status.get("availableReplicas") == 1, status
    return recording_town


def _ask(**asked: object) -> str:
    return json.dumps(asked)


def test_twenty_cuts_leave_no_gap_and_no_duplicate(town: Town, client: ClientName) -> None:
    """Connections that are reset, closed, silent or slow at random places: all events, once, in order."""
    rng = random.Random(7)
    cuts = [Fault(rng.randrange(0, 6000), rng.choice(("reset", "close"))) for _ in range(18)]
    faults = deque([*cuts, Fault(700, "stall"), Fault(3000, "reset", delay_s=0.01)])
    before = starts(town)

    with cutter(town.port) as proxy:
        proxy.faults = faults
        reading = Reading(f"{proxy.url}/function/teller", _ask(count=800, gap_s=0.002), silence_s=2.0)
        outcome = read(client, reading)

    assert told(800) == outcome.data
    assert ("", "") == outcome.error
    assert (1, 0) == (starts(town) - before, len(faults))


def test_cuts_between_two_gateways_are_one_run(
    town: Town, nats: NatsServer, tmp_path: Path, client: ClientName
) -> None:
    """Each connection goes to the other gateway; a key that came to one is known to the other."""
    before = starts(town)

    with (
        running_town(tmp_path, flags={"nats_url": nats.url}) as other,
        cutter(town.port, other.port) as proxy,
    ):
        other.deploy("teller", TELLER, lang="python3-stream")
        proxy.faults = deque([Fault(0), *[Fault(2000, how) for how in ("reset", "close") * 4]])
        outcome = read(client, Reading(f"{proxy.url}/function/teller", _ask(count=400, gap_s=0.003)))
        begun = starts(town) - before + starts(other)

    assert (told(400), ("", "")) == (outcome.data, outcome.error)
    assert (1, True) == (begun, proxy.connections >= 10)


def test_a_cut_before_the_head_starts_nothing_anew(town: Town, client: ClientName) -> None:
    """The request comes again under its key, and is the same call."""
    before = starts(town)

    with cutter(town.port) as proxy:
        proxy.faults = deque([Fault(0), Fault(40), Fault(0)])
        outcome = read(client, Reading(f"{proxy.url}/function/teller", _ask(count=5, gap_s=0.01)))
        connections = proxy.connections

    assert told(5) == outcome.data
    assert 1 == starts(town) - before
    assert connections >= 4


def test_a_stream_without_ids_is_gone_on_with_too(town: Town, client: ClientName) -> None:
    """OpenAI's dialect: what had come is passed over when it comes again."""
    before = starts(town)

    with cutter(town.port) as proxy:
        proxy.faults = deque([Fault(2500), Fault(1500), Fault(900)])
        outcome = read(client, Reading(f"{proxy.url}/function/openai", _ask(count=60, gap_s=0.005)))

    *chunks, end = outcome.data
    assert [f"{at} " for at in range(60)] == [_content(chunk) for chunk in chunks]
    assert ("[DONE]", ("", "")) == (end, outcome.error)
    assert 1 == starts(town) - before


def _content(chunk: str) -> str:
    found: str = json.loads(chunk)["choices"][0]["delta"]["content"]
    return found


@pytest.mark.parametrize("faults", [[], [Fault(500)], [Fault(0), Fault(450)]], ids=["whole", "cut", "cuts"])
def test_a_failure_is_told_after_what_came_before_it(
    town: Town, client: ClientName, faults: list[Fault]
) -> None:
    """The function raises after three events: three events, then its error, cut or not."""
    with cutter(town.port) as proxy:
        proxy.faults = deque(faults)
        body = _ask(count=9, gap_s=0.03, fail=3)
        outcome = read(client, Reading(f"{proxy.url}/function/teller", body))

    assert told(3) == outcome.data
    assert ("RunFailed", "function_failed") == outcome.error


def test_stop_stops_and_says_so(town: Town, client: ClientName) -> None:
    """The stream ends with RunStopped, never as if it were whole; the record has what came."""
    body = _ask(count=1000, gap_s=0.01)
    outcome = read(client, Reading(f"{town.url}/function/teller", body, stop_at=5))

    with town.http() as http:
        record = http.get(f"/run/{outcome.run}").json()
    assert told(5) == outcome.data[:5]
    assert ("RunStopped", "") == outcome.error
    assert ("cancelled", "cancelled") == (outcome.stopped, record["state"])
    assert len(outcome.data) == record["events"]


def test_leaving_is_not_stopping(town: Town, client: ClientName) -> None:
    """Who leaves a run that may go on can come back to all of it, from the start or where it was left."""
    url, body = f"{town.url}/function/teller", _ask(count=40, gap_s=0.01)
    left = read(client, Reading(url, body, leave_at=3))

    whole = read(client, Reading(town.url, run=left.run))
    rest = read(client, Reading(town.url, run=f"{town.url}/run/{left.run}", after=f"{left.run}-3"))

    assert told(3) == left.data
    assert (told(40), ("", "")) == (whole.data, whole.error)
    assert (told(40)[3:], ("", "")) == (rest.data, rest.error)


def test_nothing_after_the_last_event_is_an_end(town: Town, client: ClientName) -> None:
    """204: the record is looked at, so a run that failed does not look whole."""
    url = f"{town.url}/function/teller"
    done = read(client, Reading(url, _ask(count=3)))
    failed = read(client, Reading(url, _ask(count=3, fail=2)))

    again = read(client, Reading(town.url, run=done.run, after="4"))
    failed_again = read(client, Reading(town.url, run=failed.run, after="3"))

    assert ([], ("", "")) == (again.data, again.error)
    assert ([], ("RunFailed", "error_function")) == (failed_again.data, failed_again.error)


def test_one_key_is_one_run(town: Town, client: ClientName) -> None:
    """The same request has the same answer; another request under the key is refused."""
    url, key, before = f"{town.url}/function/teller", f"key-of-{client}", starts(town)
    first = read(client, Reading(url, _ask(count=5), key=key))

    second = read(client, Reading(url, _ask(count=5), key=key))
    other = read(client, Reading(url, _ask(count=6), key=key))

    assert (told(5), first.data, first.run) == (second.data, second.data, second.run)
    assert ([], ("CallRefused", "422")) == (other.data, other.error)
    assert 1 == starts(town) - before


def test_what_is_not_there_is_refused_at_once(town: Town, client: ClientName) -> None:
    """A function, a run."""
    function = read(client, Reading(f"{town.url}/function/nobody", "{}"))
    run = read(client, Reading(town.url, run="a" * 26))

    assert [("CallRefused", "404")] * 2 == [function.error, run.error]


def test_a_gateway_that_stays_away_is_given_up(town: Town, client: ClientName) -> None:
    """After so many attempts in a row, with what had come; and at once when nothing is resumed."""
    with cutter(town.port) as proxy:
        proxy.faults = deque([Fault(1200), *[Fault(0)] * 3])
        url, body = f"{proxy.url}/function/teller", _ask(count=100, gap_s=0.01)
        given_up = read(client, Reading(url, body, attempts=3))
        proxy.faults = deque([Fault(1200)])
        plain = read(client, Reading(url, body, is_resumed=False))

    assert ("ConnectionLost", "") == given_up.error == plain.error
    for outcome in (given_up, plain):
        assert 0 < len(outcome.data) < 100
        assert told(100)[: len(outcome.data)] == outcome.data


def test_leaving_a_run_that_must_not_go_on_ends_it(town: Town, client: ClientName) -> None:
    """`cancel`: nobody reads it, so nobody pays for it."""
    body = _ask(count=1000, gap_s=0.01)
    outcome = read(client, Reading(f"{town.url}/function/teller", body, leave_at=2, on_disconnect="cancel"))

    again = read(client, Reading(town.url, run=outcome.run))

    assert told(2) == outcome.data
    assert len(again.data) < 1000
    assert "RunStopped" == again.error[0]
