"""A process with all that it started: killed together.

They stay in the replica's own process group, so that they die with it however it dies; one call's part of
the group is found by its parents.
"""

from __future__ import annotations

import contextlib
import os
import signal


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants, at once. Nothing happens when it is gone.

    Where the system does not tell who is whose parent (macOS), only the process itself.
    """
    found = [pid]
    for parent in found:  # it grows meanwhile
        found += _children(parent)
    for one in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # a number is wanted
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123  # as above
                found += [int(child) for child in file.read().split()]
    return found
