"""The short run of the fuzzers, and every case of the corpus. The long one is `scripts/soak fuzz`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit import explained, oracle
from tests.kit.fuzzing import CORPUS, EDGE_TARGETS, PARSERS, Target, edge_loop, fault, files, shrunk

BY_NAME = {target.name: target for target in PARSERS}
SHORT = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@pytest.fixture(scope="module")
def edge() -> Iterator[dict[str, Target]]:
    """The targets that need a running edge."""
    with edge_loop() as loop:
        yield loop.targets()


def cases(names: tuple[str, ...]) -> list[Path]:
    return [path for name in names for path in files(name)]


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


@pytest.mark.parametrize("path", cases(tuple(BY_NAME)), ids=named)
def test_what_breaks_parsers_is_read_as_by_others_or_refused(path: Path) -> None:
    """Every file of the corpus broke something once, here or elsewhere."""
    BY_NAME[path.parent.name].check(path.read_bytes())


@pytest.mark.parametrize("path", cases(EDGE_TARGETS), ids=named)
def test_what_breaks_proxies_does_not_pass_the_edge(path: Path, edge: dict[str, Target]) -> None:
    """The same for whole connections, before a real edge."""
    edge[path.parent.name].check(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("target", PARSERS, ids=lambda target: target.name)
@SHORT
@given(rng=st.randoms(use_true_random=False))
def test_bent_messages_are_read_as_by_others_or_refused(target: Target, rng: random.Random) -> None:
    """h11, llhttp and the specification agree with every reading; every refusal is explained."""
    target.check(target.make(rng))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conversation", "answer"])
@SHORT
@given(rng=st.randoms(use_true_random=False))
def test_bent_conversations_do_not_pass_the_edge(
    edge: dict[str, Target], name: str, rng: random.Random
) -> None:
    """A replica gets what h11 reads in the client's bytes, a client what h11 reads in the replica's."""
    edge[name].check(edge[name].make(rng))


@pytest.mark.slow
@settings(SHORT, max_examples=15)
@given(rng=st.randoms(use_true_random=False))
def test_streams_cut_anywhere_arrive_as_they_are(edge: dict[str, Target], rng: random.Random) -> None:
    """Each twelve times at once, with heartbeats in its pauses, ending well or not."""
    edge["stream"].check(edge["stream"].make(rng))


def test_the_corpus_is_complete() -> None:
    """Each target has its folder, and what was found has been given a name."""
    folders = {path.name for path in CORPUS.iterdir() if path.is_dir()}
    unnamed = list(CORPUS.glob("*/found-*"))

    assert {*BY_NAME, *EDGE_TARGETS} == folders
    assert [] == unnamed


def test_every_explanation_is_needed() -> None:
    """Each kind of message that h11 takes and Tailrace refuses has an example in the corpus or the tables."""
    used = set[str]()
    for name, reasons in (("request", explained.REQUESTS), ("reply", explained.REPLIES)):
        read = oracle.h11_request if name == "request" else oracle.h11_reply
        for data in BY_NAME[name].seeds():
            if b" " * 1000 not in data and not isinstance(found := read(data), str | None):
                used.update(explained.why_refused(reasons, data, found))
    for data in BY_NAME["chunked"].seeds():
        if isinstance(decoded := oracle.h11_dechunked(data), oracle.Decoded):
            used.update(explained.why_violated(data, decoded))
    rows = (*explained.REQUESTS, *explained.REPLIES)

    assert set() == {row.what for row in rows} - used
    assert set() == {row.what for row in explained.CODINGS} - used


def test_a_finding_is_made_small() -> None:
    """What is written into the corpus is what is needed to see the fault."""

    def check(data: bytes) -> None:
        assert b"bad" not in data, "it is bad"

    assert b"bad" == shrunk(check, b"a long case with something bad in its middle, and more")
    assert "it is bad" in fault(check, b"bad")
    assert "" == fault(check, b"good")
