"""The exposition says what was counted, under the names that dashboards ask for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from tailrace.control.metrics.catalogue import FAMILIES
from tailrace.control.metrics.exposition import render
from tailrace.control.metrics.snapshot import read_usage, take_snapshot
from tailrace.edge.numbers import CALL_SECONDS, CODES_LIMIT, FIRST_CONTENT_SECONDS, Numbers
from tailrace.functions.table import Function, Replica, Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.contract import Address
from tests.kit.edge import Handle
from tests.kit.loops import run
from tests.kit.metrics import Scrape

FN = "fn.openfaas-fn"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def make_table() -> Table:
    """One function that wishes for two replicas; one is there, and it is this process."""
    table = Table()
    spec = FunctionSpec(FunctionName("fn"), "i", "0" * 64, labels={"com.openfaas.scale.min": "2"})
    function = Function(spec, lambda: None)
    replica = Replica(function, "fn-1", spec.revision, 0.0)
    replica.handle, replica.state, replica.in_flight = Handle(Address(path="x"), pid=os.getpid()), "ready", 3
    function.replicas["fn-1"] = replica
    function.route()
    table.add(function)
    return table


def shown(numbers: Numbers, table: Table) -> Scrape:
    """What a Prometheus without wishes is answered."""
    body, content_type = render(take_snapshot(numbers, table), FAMILIES, "")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(body.decode())


def test_a_format_of_no_version_is_answered_as_none() -> None:
    """The library stumbles over it; a scraper gets the usual format."""
    accept = "application/openmetrics-text; version=abc"

    body, content_type = render(take_snapshot(Numbers(), Table()), FAMILIES, accept)

    assert "text/plain; version=0.0.4; charset=utf-8" == content_type
    assert b"tailrace_info" in body


def test_openfaas_names_to_the_letter() -> None:
    """Lines as its gateway writes them: dashboards and alerts ask for these."""
    numbers = Numbers()
    of_fn = numbers.of(FN)
    of_fn.started = 3
    of_fn.in_flight = 1
    of_fn.end(200, "done", 0.3)
    of_fn.end(502, "replica_died", 700.0)

    lines = shown(numbers, make_table()).text.splitlines()

    assert {
        "# TYPE gateway_function_invocation_total counter",
        'gateway_function_invocation_total{code="200",function_name="fn.openfaas-fn"} 1.0',
        'gateway_function_invocation_total{code="502",function_name="fn.openfaas-fn"} 1.0',
        "# TYPE gateway_functions_seconds histogram",
        'gateway_functions_seconds_bucket{code="200",function_name="fn.openfaas-fn",le="0.25"} 0.0',
        'gateway_functions_seconds_bucket{code="200",function_name="fn.openfaas-fn",le="0.5"} 1.0',
        'gateway_functions_seconds_bucket{code="502",function_name="fn.openfaas-fn",le="600.0"} 0.0',
        'gateway_functions_seconds_bucket{code="502",function_name="fn.openfaas-fn",le="+Inf"} 1.0',
        'gateway_functions_seconds_sum{code="200",function_name="fn.openfaas-fn"} 0.3',
        'gateway_functions_seconds_count{code="200",function_name="fn.openfaas-fn"} 1.0',
        "# TYPE gateway_function_invocation_started untyped",
        'gateway_function_invocation_started{function_name="fn.openfaas-fn"} 3.0',
        'gateway_function_invocation_inflight{function_name="fn.openfaas-fn"} 1.0',
        'gateway_service_count{function_name="fn.openfaas-fn"} 2.0',
        'gateway_service_ready_count{function_name="fn.openfaas-fn"} 1.0',
        'gateway_service_min{function_name="fn.openfaas-fn"} 2.0',
    } - set(lines) == set()


def test_every_metric_is_exposed_with_its_type_and_labels() -> None:
    """The catalogue, the exposition and what Prometheus's parser reads agree."""
    numbers = Numbers()
    numbers.of(FN).end(200, "done", 0.3)

    families = shown(numbers, make_table()).families

    for family in FAMILIES:
        read = families[family.name.removesuffix("_total") if family.kind == "counter" else family.name]
        labels = {*family.labels, "le"} if family.kind == "histogram" else {*family.labels}
        assert (family.kind.replace("untyped", "unknown"), labels) == (
            read.type,
            {label for sample in read.samples for label in sample.labels},
        ), family.name
    own = {name for name in families if not name.startswith("process_")}
    assert {family.name.removesuffix("_total") for family in FAMILIES} == own


def test_openmetrics_is_given_to_who_asks() -> None:
    """Prometheus asks for it first; its strict parser accepts it."""
    numbers = Numbers()
    numbers.of(FN).end(200, "done", 0.3)

    body, content_type = render(take_snapshot(numbers, make_table()), FAMILIES, OPENMETRICS)

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    names = {sample.name for family in read_openmetrics(body.decode()) for sample in family.samples}  # type: ignore[no-untyped-call]  # the library
    assert {"gateway_function_invocation_total", "gateway_function_invocation_started"} <= names


def test_histograms_are_cumulative() -> None:
    """Each bucket holds those below it; +Inf holds all."""
    numbers = Numbers()
    for seconds in (0.004, 0.3, 0.7, 0.7, 500):
        numbers.of(FN).first_content.observe(seconds)

    found = shown(numbers, make_table())

    buckets = {
        bound: found.value("tailrace_first_content_seconds_bucket", le=repr(bound))
        for bound in FIRST_CONTENT_SECONDS
    }
    assert (1.0, 2.0, 4.0, 4.0) == (buckets[0.005], buckets[0.3], buckets[0.8], buckets[120.0])
    assert 5.0 == found.value("tailrace_first_content_seconds_bucket", le="+Inf")
    assert 5.0 == found.value("tailrace_first_content_seconds_count")
    assert len(CALL_SECONDS) + 1 < len(buckets)


def test_ends_and_the_gateway_are_told() -> None:
    """By reason; what has no function stands without labels."""
    numbers = Numbers(connections_open=7, connections_refused=1, requests_refused=2, buffered_bytes=4096)
    numbers.log_lines_dropped = 5
    numbers.of(FN).end(200, "done", 1)
    numbers.of(FN).end(0, "client_gone", 1)

    found = shown(numbers, make_table())

    assert [1.0, 1.0, 0.0] == [
        found.value("tailrace_calls_total", function_name=FN, end_reason=reason)
        for reason in ("done", "client_gone", "drain")
    ]
    assert [7.0, 1.0, 2.0, 4096.0, 5.0] == [
        found.value(f"tailrace_{name}")
        for name in (
            "connections_open",
            "connections_refused_total",
            "requests_refused_total",
            "buffered_bytes",
            "log_lines_dropped_total",
        )
    ]


def test_statuses_beyond_the_limit_have_a_name() -> None:
    """They are `other`, so that nobody takes them for a status."""
    numbers = Numbers()
    for status in range(200, 200 + CODES_LIMIT + 5):
        numbers.of(FN).end(status, "done", 1)

    found = shown(numbers, make_table())

    assert 5.0 == found.value("gateway_function_invocation_total", code="other")


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells it in /proc")
def test_replicas_are_told_with_what_they_use() -> None:
    """The gateway reads it for them: a replica serves no metrics of its own."""
    found = shown(Numbers(), make_table())

    labels = {"function_name": FN, "replica": "fn-1"}
    assert 3.0 == found.value("tailrace_replica_in_flight", **labels)
    used = time.process_time()
    assert 0 < found.value("tailrace_replica_cpu_seconds_total", **labels) <= used + 0.1
    assert 1e7 < found.value("tailrace_replica_resident_memory_bytes", **labels) < 1e10
    assert 0 < found.value("process_open_fds")


def test_a_replica_that_is_gone_is_left_out() -> None:
    """It ends between the snapshot and its writing; its pid may be anybody's by then, or nobody's."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    assert read_usage(child.pid) is None
    assert read_usage(0) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells it in /proc")
def test_a_programs_name_confuses_nobody(tmp_path: Path) -> None:
    """It stands in parentheses in the middle of the line and may hold spaces and more of them."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to(sys.executable)
    child = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        usage = read_usage(child.pid)
    finally:
        child.communicate(b"\n")

    assert usage is not None
    assert usage.cpu_s < 5


def test_removed_functions_are_dropped_once_their_calls_are_over() -> None:
    """What is kept is bounded by what is deployed."""
    numbers = Numbers()
    numbers.of("gone.openfaas-fn").started = 1
    numbers.of("going.openfaas-fn").in_flight = 1

    take_snapshot(numbers, make_table())

    assert {"going.openfaas-fn", FN} == set(numbers.functions)


def test_a_snapshot_stays_as_it_is() -> None:
    """It is written out by another thread while calls go on."""
    numbers = Numbers()
    numbers.of(FN).end(200, "done", 0.3)

    snapshot = take_snapshot(numbers, make_table())
    numbers.of(FN).end(200, "done", 0.3)
    numbers.of(FN).first_content.observe(0.1)

    (function,) = snapshot.functions
    assert {"done": 1} == dict(function.numbers.ends)
    assert (1, 1) == (function.numbers.codes[200].count, function.numbers.codes[200].seconds.count)
    assert 0 == function.numbers.first_content.count


@pytest.mark.slow
def test_writing_it_all_out_lets_the_loop_run() -> None:
    """100 functions, 12,000 samples: 0.1 s of work in a thread, of which no event waits for 20 ms."""
    table, numbers = Table(), Numbers()
    for n in range(100):
        function = Function(FunctionSpec(FunctionName(f"fn-{n}"), "i", "0" * 64), lambda: None)
        table.add(function)
        for status in (200, 429, 500):
            numbers.of(str(function.name)).end(status, "done", 0.3)

    async def latest_s() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        snapshot = take_snapshot(numbers, table)
        latest = loop.time() - began
        work = asyncio.create_task(asyncio.to_thread(render, snapshot, FAMILIES, ""))
        while not work.done():
            began = loop.time()
            await asyncio.sleep(0.001)
            latest = max(latest, loop.time() - began - 0.001)
        assert len((await work)[0].splitlines()) > 12_000
        return latest

    # What else runs on this machine may hold the loop up, but not each time.
    assert min(run(latest_s()) for _ in range(3)) < 0.02
