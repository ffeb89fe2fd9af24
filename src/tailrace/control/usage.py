"""What replicas use now, with all the processes that they started. Linux only; blocking, for a thread."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PSS = re.compile(rb"^Pss: +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Used:
    """Of a replica's processes together.

    Attributes:
        cpu_s: CPU seconds since their start, with those of children that have ended and were waited for: what
            a process that ends has used is its parent's from then on.
        memory_bytes: Memory they hold; what several processes share is counted once.
    """

    cpu_s: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    session: int
    ticks: int
    pages: int


def read_used(replicas: Collection[int], proc: Path = _PROC) -> dict[int, Used]:
    """By the process id of each replica that is there; nothing where the system does not tell (macOS).

    A process is a replica's when the replica or a process of it started it, or it is still in the session
    that every replica begins. One that left both is its own.
    """
    if sys.platform != "linux":
        return {}
    processes = {process.pid: process for process in _read_all(proc)}
    found = {pid: Used() for pid in replicas if pid in processes}
    for process in processes.values():
        owner = _owner(process, processes, found)
        if owner is not None:
            so_far = found[owner]
            cpu_s = so_far.cpu_s + process.ticks / os.sysconf("SC_CLK_TCK")
            found[owner] = Used(cpu_s, so_far.memory_bytes + _memory(process, proc))
    return found


def _owner(process: _Process, processes: dict[int, _Process], replicas: Collection[int]) -> int | None:
    at: _Process | None = process
    for _ in range(len(processes)):  # the processes are not of one moment: who was read first may be anew
        if at is None:
            break
        if at.pid in replicas:
            return at.pid
        at = processes.get(at.parent)
    return process.session if process.session in replicas else None


def _read_all(proc: Path) -> Iterator[_Process]:
    for entry in os.scandir(proc):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_bytes()
        except OSError:
            continue  # it has ended
        # The second field is the program's name in parentheses and may hold anything. ppid and session are
        # fields 4 and 6; utime, stime, cutime and cstime 14 to 17, in clock ticks; rss is field 24, in pages.
        # Source: proc_pid_stat(5).
        fields = stat.rpartition(b")")[2].split()
        ticks = sum(int(field) for field in fields[11:15])
        yield _Process(int(entry.name), int(fields[1]), int(fields[3]), ticks, int(fields[21]))


def _memory(process: _Process, proc: Path) -> int:
    """Its share of the pages that it holds; all of them where that is not told."""
    try:
        told = _PSS.search((proc / str(process.pid) / "smaps_rollup").read_bytes())
    except OSError:
        told = None
    return int(told[1]) * 1024 if told else process.pages * os.sysconf("SC_PAGE_SIZE")
