"""Every metric, one row each: `/metrics` and docs/reference/metrics.md derive from here.

OpenFaaS's names are in its contract, section 8. Those of its Pro edition are here where what they say can be
told truthfully.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tailrace.control.metrics.snapshot import FunctionState, ReplicaState, Snapshot, Usage, read_usage
from tailrace.edge.numbers import (
    CALL_SECONDS,
    EVENT_GAP_SECONDS,
    FIRST_CONTENT_SECONDS,
    OTHER_CODE,
    FunctionNumbers,
    Histogram,
)

Kind = Literal["counter", "gauge", "histogram", "untyped"]
# Label values in the order of the row's labels, and the value.
Reading = Iterator[tuple[tuple[str, ...], float | Histogram]]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: As it is exposed; of a histogram without ``_bucket``, ``_sum`` and ``_count``.
        kind: ``untyped`` is a counter whose name OpenFaaS gave no ``_total``, which the formats ask of one.
        bounds: A histogram's, in the metric's unit.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    sentence: str
    read: Callable[[Snapshot], Reading]
    bounds: tuple[float, ...] = ()


def _of_gateway(value: Callable[[Snapshot], float]) -> Callable[[Snapshot], Reading]:
    def read(snapshot: Snapshot) -> Reading:
        yield (), value(snapshot)

    return read


def _of_function(value: Callable[[FunctionState], float]) -> Callable[[Snapshot], Reading]:
    def read(snapshot: Snapshot) -> Reading:
        return (((state.label,), value(state)) for state in snapshot.functions)

    return read


def _of_numbers(value: Callable[[FunctionNumbers], float | Histogram]) -> Callable[[Snapshot], Reading]:
    def read(snapshot: Snapshot) -> Reading:
        return (((state.label,), value(state.numbers)) for state in snapshot.functions)

    return read


def _of_replica(value: Callable[[ReplicaState], float]) -> Callable[[Snapshot], Reading]:
    def read(snapshot: Snapshot) -> Reading:
        return (((state.function, state.id), value(state)) for state in snapshot.replicas)

    return read


def _of_usage(value: Callable[[Usage], float]) -> Callable[[Snapshot], Reading]:
    def read(snapshot: Snapshot) -> Reading:
        for state in snapshot.replicas:
            usage = read_usage(state.pid)
            if usage is not None:
                yield (state.function, state.id), value(usage)

    return read


def _codes(snapshot: Snapshot) -> Reading:
    for state in snapshot.functions:
        for code, numbers in sorted(state.numbers.codes.items()):
            yield (state.label, _code(code)), numbers.count


def _code_seconds(snapshot: Snapshot) -> Reading:
    for state in snapshot.functions:
        for code, numbers in sorted(state.numbers.codes.items()):
            yield (state.label, _code(code)), numbers.seconds


def _code(code: int) -> str:
    return "other" if code == OTHER_CODE else str(code)


def _ends(snapshot: Snapshot) -> Reading:
    for state in snapshot.functions:
        for reason, count in sorted(state.numbers.ends.items()):
            yield (state.label, reason), count


def _version(snapshot: Snapshot) -> Reading:
    yield (snapshot.version,), 1


def _fullness(snapshot: Snapshot) -> Reading:
    for bound, full in sorted(snapshot.runs.fullness.items()):
        yield (bound,), full


_FUNCTION = ("function_name",)
_CODE = ("function_name", "code")
_REPLICA = ("function_name", "replica")

OPENFAAS: tuple[Family, ...] = (
    Family(
        "gateway_function_invocation_total", "counter", _CODE,
        "Calls that are over, by the status that the caller got.", _codes,
    ),
    Family(
        "gateway_functions_seconds", "histogram", _CODE,
        "Seconds from a call's head to the end of its answer.", _code_seconds, CALL_SECONDS,
    ),
    Family(
        "gateway_function_invocation_started", "untyped", _FUNCTION,
        "Calls that came in, refused ones too.", _of_numbers(lambda n: n.started),
    ),
    Family(
        "gateway_function_invocation_inflight", "gauge", _FUNCTION,
        "Calls that hold a place on a replica now.", _of_numbers(lambda n: n.in_flight),
    ),
    Family(
        "gateway_service_count", "gauge", _FUNCTION,
        "Replicas that are wished for.", _of_function(lambda f: f.wished),
    ),
    Family(
        "gateway_service_ready_count", "gauge", _FUNCTION,
        "Replicas that take calls.", _of_function(lambda f: f.ready),
    ),
    Family(
        "gateway_service_min", "gauge", _FUNCTION,
        "The least number of replicas: label `com.openfaas.scale.min`.", _of_function(lambda f: f.least),
    ),
    # The same under the names that OpenFaaS's documentation gives them.
    Family(
        "gateway_invocation_function_started", "untyped", _FUNCTION,
        "The same as `gateway_function_invocation_started`.", _of_numbers(lambda n: n.started),
    ),
    Family(
        "gateway_invocation_function_invocation_inflight", "gauge", _FUNCTION,
        "The same as `gateway_function_invocation_inflight`.", _of_numbers(lambda n: n.in_flight),
    ),
)  # fmt: skip

OURS: tuple[Family, ...] = (
    Family(
        "tailrace_calls_total", "counter", ("function_name", "end_reason"),
        "Calls that are over, by how they ended.", _ends,
    ),
    Family(
        "tailrace_first_content_seconds", "histogram", _FUNCTION,
        "Seconds from a call's head to the first event that carries data: time to first token. Comments, "
        "heartbeats and control frames are none.",
        _of_numbers(lambda n: n.first_content), FIRST_CONTENT_SECONDS,
    ),
    Family(
        "tailrace_event_gap_seconds", "histogram", _FUNCTION,
        "Seconds between two events that carry data of one stream.",
        _of_numbers(lambda n: n.event_gap), EVENT_GAP_SECONDS,
    ),
    Family(
        "tailrace_stream_events_total", "counter", _FUNCTION,
        "Events that carry data.", _of_numbers(lambda n: n.events),
    ),
    Family(
        "tailrace_open_streams", "gauge", _FUNCTION,
        "Answers that are being streamed now.", _of_numbers(lambda n: n.open_streams),
    ),
    Family(
        "tailrace_queue_depth", "gauge", _FUNCTION,
        "Calls that wait for a place on a replica now.", _of_function(lambda f: f.queued),
    ),
    Family(
        "tailrace_replica_in_flight", "gauge", _REPLICA,
        "Calls that the replica answers now.", _of_replica(lambda r: r.in_flight),
    ),
    Family(
        "tailrace_replica_cpu_seconds_total", "counter", _REPLICA,
        "CPU seconds that the replica's process has used, without processes it started. Linux only.",
        _of_usage(lambda u: u.cpu_s),
    ),
    Family(
        "tailrace_replica_resident_memory_bytes", "gauge", _REPLICA,
        "Memory that the replica's process holds, without processes it started. Linux only.",
        _of_usage(lambda u: u.resident_bytes),
    ),
    Family(
        "tailrace_connections_open", "gauge", (),
        "Clients that are connected now.", _of_gateway(lambda s: s.connections_open),
    ),
    Family(
        "tailrace_connections_refused_total", "counter", (),
        "Connections that were answered 503 because there were too many (`connection_limit`).",
        _of_gateway(lambda s: s.connections_refused),
    ),
    Family(
        "tailrace_requests_refused_total", "counter", (),
        "Requests that were refused before their target was looked at: malformed, too large, too slow.",
        _of_gateway(lambda s: s.requests_refused),
    ),
    Family(
        "tailrace_buffered_bytes", "gauge", (),
        "Bytes held for clients and replicas now, beside the sockets' own buffers; see `buffer_limit`.",
        _of_gateway(lambda s: s.buffered_bytes),
    ),
    Family(
        "tailrace_log_lines_dropped_total", "counter", (),
        "Lines of the call log that were lost because their reader was too slow.",
        _of_gateway(lambda s: s.log_lines_dropped),
    ),
    Family(
        "tailrace_runs_started_total", "counter", (),
        "Recorded runs that began here.", _of_gateway(lambda s: s.runs.started),
    ),
    Family(
        "tailrace_runs_unrecorded_total", "counter", (),
        "Runs of which nothing, or from some moment on nothing more, could be recorded.",
        _of_gateway(lambda s: s.runs.unrecorded),
    ),
    Family(
        "tailrace_runs_truncated_total", "counter", (),
        "Runs that were longer than what is recorded of one.", _of_gateway(lambda s: s.runs.truncated),
    ),
    Family(
        "tailrace_runs_lost_total", "counter", (),
        "Runs of dead gateways that were closed here.", _of_gateway(lambda s: s.runs.lost),
    ),
    Family(
        "tailrace_runs_abandoned_total", "counter", (),
        "Runs that were ended because nobody watched them any more.",
        _of_gateway(lambda s: s.runs.ended_alone),
    ),
    Family(
        "tailrace_recording_failing", "gauge", (),
        "1 while JetStream takes nothing of what is to be recorded.", _of_gateway(lambda s: s.runs.is_down),
    ),
    Family(
        "tailrace_run_viewers", "gauge", (),
        "Viewers of runs here now, beside first clients.", _of_gateway(lambda s: s.runs.viewers),
    ),
    Family(
        "tailrace_run_viewers_dropped_total", "counter", (),
        "Clients of runs that were let go because they did not keep up.",
        _of_gateway(lambda s: s.runs.viewers_dropped),
    ),
    Family(
        "tailrace_runs_fullness", "gauge", ("bound",),
        "How near the recorded events are to a setting that deletes the oldest before their time; 1: there.",
        _fullness,
    ),
    Family(
        "tailrace_async_queued_total", "counter", (),
        "Asynchronous calls that were taken in here.", _of_gateway(lambda s: s.queue.queued),
    ),
)  # fmt: skip

# What `tailrace worker` has too.
WORKER = (
    Family(
        "tailrace_async_redelivered_total", "counter", (),
        "Asynchronous calls that came here again: tried before, or left by a worker that died.",
        _of_gateway(lambda s: s.queue.redelivered),
    ),
    Family(
        "tailrace_async_dead_total", "counter", (),
        "Asynchronous calls, and deliveries of results, that were given up here.",
        _of_gateway(lambda s: s.queue.dead),
    ),
    Family(
        "tailrace_async_waiting", "gauge", (),
        "Asynchronous calls of all functions that wait or are being made, on the whole NATS, as of the "
        "last few seconds.",
        _of_gateway(lambda s: s.queue.waiting),
    ),
    Family(
        "tailrace_async_in_hand", "gauge", (),
        "Asynchronous calls, and results to deliver, that this process works on now.",
        _of_gateway(lambda s: s.queue.in_hand),
    ),
    Family(
        "tailrace_callbacks_delivered_total", "counter", (),
        "Results of asynchronous calls that were delivered from here.",
        _of_gateway(lambda s: s.queue.delivered),
    ),
    Family(
        "tailrace_callback_failures_total", "counter", (),
        "Deliveries from here that failed; most are tried again.",
        _of_gateway(lambda s: s.queue.callback_failures),
    ),
    Family("tailrace_info", "gauge", ("version",), "1, with the version of Tailrace.", _version),
)  # fmt: skip

FAMILIES = OPENFAAS + OURS + WORKER
