"""All numbers of a gateway at one moment, copied on the loop's thread so that another may write them out."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import tailrace
from tailrace.edge.numbers import FunctionNumbers, Numbers
from tailrace.functions.table import Function, Table
from tailrace.queue.numbers import QueueNumbers
from tailrace.runs.numbers import RunNumbers

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class FunctionState:
    """One function. ``label`` is ``name.namespace``; ``numbers`` is a copy."""

    label: str
    numbers: FunctionNumbers
    queued: int
    wished: int
    least: int
    ready: int


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica that has been started. ``pid`` is 0 where it is no process of this machine."""

    function: str
    id: str
    pid: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The gateway at one moment. Functions and replicas are sorted by name."""

    version: str
    functions: tuple[FunctionState, ...]
    replicas: tuple[ReplicaState, ...]
    connections_open: int
    connections_refused: int
    requests_refused: int
    buffered_bytes: int
    log_lines_dropped: int
    # Its own copies.
    runs: RunNumbers
    queue: QueueNumbers = field(default_factory=QueueNumbers)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU seconds since its start, and bytes of memory it holds now."""

    cpu_s: float
    resident_bytes: int


def take_snapshot(
    numbers: Numbers, table: Table, runs: RunNumbers | None = None, queue: QueueNumbers | None = None
) -> Snapshot:
    """Everything as it is now. Drops the numbers of functions that were removed and have no call left."""
    functions = list(table)
    there = {str(function.name) for function in functions}
    for label, of_function in list(numbers.functions.items()):
        if label not in there and not of_function.in_flight:
            numbers.forget(label)
    return Snapshot(
        tailrace.__version__,
        tuple(_function_state(function, numbers) for function in functions),
        tuple(state for function in functions for state in _replica_states(function)),
        numbers.connections_open,
        numbers.connections_refused,
        numbers.requests_refused,
        numbers.buffered_bytes,
        numbers.log_lines_dropped,
        replace(runs) if runs is not None else RunNumbers(),
        replace(queue) if queue is not None else QueueNumbers(),
    )


def _function_state(function: Function, numbers: Numbers) -> FunctionState:
    label = str(function.name)
    return FunctionState(
        label,
        numbers.of(label).copy(),
        queued=len(function.waiting),
        wished=function.wished,
        least=function.options.min_replicas,
        ready=len(function.ready),
    )


def _replica_states(function: Function) -> list[ReplicaState]:
    return [
        ReplicaState(str(function.name), replica.id, replica.handle.pid, replica.in_flight)
        for replica in function.replicas.values()
        if replica.handle is not None
    ]


def read_usage(pid: int) -> Usage | None:
    """What a process has used; None when it is gone, or where the system does not tell (macOS)."""
    if not pid or sys.platform != "linux":
        return None
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything. Source: proc_pid_stat(5):
    # utime and stime are fields 14 and 15 in clock ticks, rss is field 24 in pages.
    fields = stat.rpartition(b")")[2].split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))
