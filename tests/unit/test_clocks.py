"""edge.clocks and options: which clock is set to what, and when it runs out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from tailrace.edge.clocks import Clocks, Marks, clocks_of, expiry
from tailrace.errors import InvalidDeployment
from tailrace.options import read_options
from tailrace.settings import load

SETTINGS = load(
    {"queue_timeout_s": 30, "start_timeout_s": 60, "idle_timeout_s": 61, "total_timeout_s": 0}, env={}
)
OWN = ("start", "idle", "total")


def clocks(annotations: dict[str, str], env: dict[str, str]) -> Clocks:
    named = {f"com.tailrace.timeout.{name}": value for name, value in annotations.items()}
    return clocks_of(read_options(named, {}, env), SETTINGS)


def expected(annotations: dict[str, str], env: dict[str, str]) -> tuple[float, float, float]:
    """The rule of the documents, said again in other words."""
    total: float | None = None
    is_openfaas = False
    if "total" in annotations:
        total = 7.0
    elif "exec_timeout" in env:
        total, is_openfaas = 90.0, True
    elif "write_timeout" in env:
        total, is_openfaas = 45.0, True
    start = 3.0 if "start" in annotations else None
    idle = 5.0 if "idle" in annotations else None
    if is_openfaas and start is None and idle is None:
        start = idle = total
    return (start or 60.0, idle or 61.0, total or math.inf)


COMBINATIONS = [
    (annotations, env)
    for picked in itertools.product((False, True), repeat=3)
    for annotations in [
        {name: value for name, value, on in zip(OWN, ("3s", "5s", "7s"), picked, strict=True) if on}
    ]
    for env in (
        {},
        {"exec_timeout": "90s"},
        {"write_timeout": "45s"},
        {"exec_timeout": "1m30s", "write_timeout": "45"},
        {"read_timeout": "9s"},
    )
]


@pytest.mark.parametrize(("annotations", "env"), COMBINATIONS)
def test_every_combination_of_annotations_and_openfaas_settings(
    annotations: dict[str, str], env: dict[str, str]
) -> None:
    """Annotation, else OpenFaaS's variables, else the gateway's setting."""
    found = clocks(annotations, env)

    assert expected(annotations, env) == (found.start_s, found.idle_s, found.total_s)
    assert found.read_s == (9.0 if "read_timeout" in env else math.inf)
    assert found.queue_s == 30


@pytest.mark.parametrize(("annotations", "env"), COMBINATIONS)
def test_each_clock_runs_out_at_its_moment_and_not_before(
    annotations: dict[str, str], env: dict[str, str]
) -> None:
    """On a moved clock: a call that began at 1000 s, was taken at 1010 s, spoke at 1012 s."""
    found = clocks(annotations, env)

    def at(**marks: float) -> tuple[float, str]:
        return expiry(found, Marks(1000.0, **marks), is_request_complete=True)

    assert at() == (1030.0, "queue")
    start = at(taken=1010.0, asked=1010.0)
    assert start == min((1010 + found.start_s, "start"), (1010 + found.total_s, "total"))
    idle = at(taken=1010.0, asked=1010.0, last=1012.0)
    assert idle == min((1012 + found.idle_s, "idle"), (1010 + found.total_s, "total"))


def test_a_silent_handler_of_80_s_answers_with_exec_timeout_alone() -> None:
    """One setting is enough: `exec_timeout: 90s`."""
    found = clocks({}, {"exec_timeout": "90s"})

    at, name = expiry(found, Marks(0.0, taken=0.0, asked=0.0), is_request_complete=True)

    assert (at, name) == (90.0, "start")


@pytest.mark.parametrize("text", ["0", "0s", "none"])
def test_zero_is_no_limit(text: str) -> None:
    """In annotations; `exec_timeout: 0` too."""
    assert clocks(dict.fromkeys(OWN, text), {}).total_s == math.inf
    assert clocks({}, {"exec_timeout": "0"}) == clocks(dict.fromkeys(OWN, "none"), {})


@pytest.mark.parametrize(("wished", "total"), [(10.0, 10.0), (90.0, 90.0), (200.0, 90.0), (0.0, 90.0)])
def test_a_caller_may_only_shorten_the_total(wished: float, total: float) -> None:
    """`X-Timeout` never makes it longer."""
    found = clocks({}, {"exec_timeout": "90s"}).shortened(wished)

    assert total == found.total_s
    assert found.look_s <= total


def test_a_request_that_trickles_in_is_bounded_by_read_timeout() -> None:
    """Only while it is not complete, in whichever phase the call is."""
    found = clocks({}, {"read_timeout": "9s"})
    marks = Marks(100.0, taken=101.0, asked=101.0)

    assert expiry(found, marks, is_request_complete=False) == (109.0, "read")
    assert expiry(found, marks, is_request_complete=True) == (161.0, "start")


@pytest.mark.parametrize(
    ("annotations", "env"),
    [
        ({"com.tailrace.timeout.idle": "soon"}, {}),
        ({"com.tailrace.timeout.idle": "-1s"}, {}),
        ({"com.tailrace.timeout.total": "25h"}, {}),
        ({"com.tailrace.timeout.idel": "1s"}, {}),
        ({"com.tailrace.stream.heartbeat": "never"}, {}),
        ({"com.tailrace.stream.heartbeat": "1ms"}, {}),
        ({"com.tailrace.stream.early-head": "yes"}, {}),
        ({"com.tailrace.concurrency.max": "many"}, {}),
        ({}, {"exec_timeout": "soon"}),
        ({}, {"max_inflight": "-3"}),
    ],
)
def test_garbage_is_refused_by_its_name(annotations: dict[str, str], env: dict[str, str]) -> None:
    """Never taken for the default."""
    key = next(iter({**annotations, **env}))

    with pytest.raises(InvalidDeployment) as refused:
        read_options(annotations, {}, env)

    assert key.removeprefix("com.tailrace.") in refused.value.text


def test_max_inflight_is_the_concurrency_unless_it_is_annotated() -> None:
    """OpenFaaS's variable and our annotation mean the same; the annotation wins."""
    env: dict[str, Any] = {"max_inflight": "3"}

    assert read_options({}, {}, env).concurrency == 3
    assert read_options({"com.tailrace.concurrency.max": "5"}, {}, env).concurrency == 5
