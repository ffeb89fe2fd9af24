"""Hostile and ambiguous messages: what Tailrace does with each, beside nginx and h11."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.kit.fuzzing import EdgeLoop, edge_loop
from tests.kit.hostile import REQUESTS, Case, Outcome, Passed
from tests.kit.needs import needs_nginx
from tests.kit.replies import REPLIES, Got, Reply
from tests.kit.strictness import PAGE, NginxSays, ask_nginx, h11_got, h11_outcome, tables, without_nginx


@pytest.fixture(scope="module")
def edge() -> Iterator[EdgeLoop]:
    """One edge for all cases."""
    with edge_loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def says() -> NginxSays:
    """What the nginx of this machine does with all cases."""
    return asyncio.run(ask_nginx(needs_nginx()))


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_a_hostile_request_is_refused_or_passed_on_exactly_so(edge: EdgeLoop, case: Case) -> None:
    """Each row of the table: the status of the refusal, or the request as the function gets it."""
    assert case.expected == edge.outcome(case.data)


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_what_passes_of_a_hostile_request_is_what_h11_reads(edge: EdgeLoop, case: Case) -> None:
    """The same invariant as for random conversations, on the named ones."""
    edge.check_conversation(case.data)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
def test_a_hostile_answer_reaches_the_client_whole_or_visibly_broken(edge: EdgeLoop, reply: Reply) -> None:
    """Each row of the second table: a refusal, the answer as it was meant, or a truthful break."""
    assert reply.expected == edge.reply(reply.data)


def test_empty_lines_between_requests_are_skipped_wherever_they_are_cut(edge: EdgeLoop) -> None:
    """One before each request, also of the same request again and again, also in a write of its own."""
    one = b"GET /function/fn/ HTTP/1.1\r\nHost: a\r\n\r\n"
    pieces = [one, b"\r\n", one, b"\r", b"\n", one, b"\r\n" + one, b"\r\n", b"\r\n" + one]

    assert (*[Passed(b"GET", b"/")] * 4, 400) == edge.outcome(b"".join(pieces), pieces)


def passed(outcome: tuple[Outcome, ...]) -> int:
    return sum(isinstance(one, Passed) for one in outcome)


@pytest.mark.slow
def test_no_request_passes_that_nginx_and_h11_both_refuse(says: NginxSays) -> None:
    """Tailrace is never the most lenient of the three, nor sees more requests, unless the row says why."""
    lenient = [
        case.name
        for case in REQUESTS
        if passed(case.expected) > max(passed(says.requests[case.name]), passed(h11_outcome(case.data)))
        and not case.because
    ]

    assert [] == lenient


def is_taken(got: Got | str) -> bool:
    return isinstance(got, Got) and got.is_whole and not got.is_told and 200 <= got.status < 500


@pytest.mark.slow
def test_no_answer_passes_that_nginx_and_h11_both_refuse(says: NginxSays) -> None:
    """The same for what replicas say."""
    lenient = [
        reply.name
        for reply in REPLIES
        if is_taken(reply.expected)
        and not is_taken(says.replies[reply.name])
        and not is_taken(h11_got(reply.data))
        and not reply.because
    ]

    assert [] == lenient


def test_the_page_says_what_tailrace_and_h11_do() -> None:
    """When this fails: scripts/soak table."""
    assert without_nginx(tables(None)) in without_nginx(PAGE.read_text())


@pytest.mark.slow
def test_the_page_says_what_nginx_does(says: NginxSays) -> None:
    """Held where the page's version of nginx is at hand; when this fails: scripts/soak table."""
    page = PAGE.read_text()
    if f"| nginx {says.version} |" not in page:
        pytest.skip(f"the page is about another nginx than {says.version}")

    assert tables(says) in page


def test_every_kind_of_trick_is_in_the_list() -> None:
    """At least 60 requests, each with a name of its own and a word on what it tries."""
    assert len({case.name for case in REQUESTS}) == len(REQUESTS) >= 60
    assert len({reply.name for reply in REPLIES}) == len(REPLIES)
    assert all([*(case.tries for case in REQUESTS), *(reply.tries for reply in REPLIES)])
