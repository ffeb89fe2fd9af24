"""The calls a replica is serving, and when it may leave.

How a replica ends::

    SIGTERM (drain)                    a call that cannot be stopped (retire)
    ---------------                    --------------------------------------
    stop accepting                     stop accepting, tell the provider
    running calls finish               the other calls finish, for RETIRE_BOUND_S at most
    exit 0                             exit 75: the call dies with the process
"""

from __future__ import annotations

from collections.abc import Callable

# After its client left, a call is stopped again and again; still there after this, it never will be.
GRACE_S = 1.5
# How long the other calls of a replica that must go may take: its stuck call holds a model meanwhile.
RETIRE_BOUND_S = 30.0
# EX_TEMPFAIL of sysexits.h: nothing is wrong with the function's code that a new process cannot mend.
EXIT_RETIRED = 75
STUCK = (
    f"a call did not stop within {GRACE_S:g} s after its client left; "
    "this replica finishes its other calls and is replaced"
)


class Told(Exception):  # it says what has been done about it
    """A failure of a call that the log tells of already, in words of its own."""


class Calls:
    """Which calls run and which of them are stuck; calls back once when the last running one ended.

    Not safe from threads: belongs to the loop or hub.
    """

    def __init__(self) -> None:
        self._running: set[object] = set()
        self._stuck: set[object] = set()
        self._on_clear: Callable[[], None] | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether new calls are refused."""
        return self._on_clear is not None

    def enter(self, call: object) -> None:
        self._running.add(call)

    def leave(self, call: object) -> None:
        self._running.discard(call)
        self._stuck.discard(call)
        self._check()

    def give_up(self, call: object) -> None:
        """Nobody waits for this call any more."""
        self._stuck.add(call)
        self._check()

    def when_clear(self, then: Callable[[], None]) -> None:
        """Call `then` once no call is running but stuck ones: at once where that is so already."""
        self._on_clear = then
        self._check()

    def _check(self) -> None:
        if self._on_clear is not None and self._running <= self._stuck:
            then, self._on_clear = self._on_clear, _nothing
            then()


def _nothing() -> None:
    """Stands for a call-back that was made."""
