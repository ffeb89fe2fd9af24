"""Tells a function's author when their code keeps the loop, or gevent's hub, from turning.

All calls of a replica that are not in threads of their own share one thread. Code that blocks or
computes in it stops them all, and nothing in it can say so::

    the loop's thread     writes down the time every BEAT_S, by a timer
    the watcher's thread  sleeps until a beat is LATE_S overdue; when it is, tells once where the loop's
                          thread is, and once more when it went on

What it costs: 4 timers and 1 waking of the watcher a second, 0.03 % of a core (measured). A watcher that
overslept itself was stopped with its process or starved, and that is nobody's code; unless the process
computed meanwhile: then a C call held the interpreter, which can be told only after it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType

from tailrace_runtime import native
from tailrace_runtime.journal import Journal, Place

BEAT_S = 0.25
LATE_S = 1.0
# Later than this, a thread that slept was not let run.
MAX_OVERSLEPT_S = 0.5
# Of the time it overslept: a process that computed for less of it was stopped or starved.
MIN_BUSY_SHARE = 0.1
# The innermost ones are told: a recursion has thousands.
MAX_FRAMES = 50

Again = Callable[[float, Callable[[], None]], object]


class LoopWatch:
    """Watches one loop or hub, from `start`, in that loop's thread, until `stop`.

    Args:
        entries: Code in whose frame a local ``call_id`` names the call that the code above it serves.
        call_now: Names the running call where no such frame is found, or gives an empty text. Called in
            the watcher's thread.
        advice: What the function's author can do; ends with a line end.
    """

    def __init__(
        self, journal: Journal, *, entries: frozenset[CodeType], call_now: Callable[[], str], advice: str
    ) -> None:
        self._journal = journal
        self._entries = entries
        self._call_now = call_now
        self._advice = advice
        self._thread = 0
        self._host: FrameType | None = None
        self._beaten_s = 0.0
        self._over_s = 0.0
        self._is_over = False
        self._again: Again = _never
        # Held while the watcher writes, so that neither a fork nor the interpreter's end finds it there.
        self._writing = native.new_lock()

    def start(self, again: Again) -> None:
        """Begin.

        Args:
            again: Has the loop call something after so many seconds.
        """
        self._thread = native.thread_id()
        self._beaten_s = time.monotonic()
        self._again = again
        again(BEAT_S, self._beat)
        os.register_at_fork(
            before=self._writing.acquire,
            after_in_parent=self._writing.release,
            after_in_child=self._writing.release,
        )
        native.start_thread(self._watch, ())

    def stop(self) -> None:
        """Write nothing from now on."""
        with self._writing:
            self._is_over = True

    def _beat(self) -> None:  # a call-back of the loop
        if self._host is None:
            self._host = sys._getframe(1)  # who runs the loop: innermost where no handler's code runs
        now_s = time.monotonic()
        if now_s - self._beaten_s > LATE_S:
            self._over_s = now_s
        self._beaten_s = now_s
        if not self._is_over:
            self._again(BEAT_S, self._beat)

    # In the watcher's thread.

    def _watch(self) -> None:
        while not self._is_over:
            beaten_s, places, call = self._wait_blocked()
            late_s = time.monotonic() - beaten_s - BEAT_S / 2
            self._tell(_begun(late_s, call) + self._advice + self._journal.describe_places(places), call)
            while self._beaten_s == beaten_s:
                native.sleep(BEAT_S)
            self._tell(_went_on(self._over_s - beaten_s - BEAT_S / 2), call)

    def _wait_blocked(self) -> tuple[float, list[Place], str]:
        """Wait until code keeps the loop: when the loop last beat, where the code is, and for which call."""
        due_s = self._beaten_s + BEAT_S + LATE_S
        while True:
            computed_s = time.process_time()
            native.sleep(max(due_s - time.monotonic(), 0))
            now_s, beaten_s = time.monotonic(), self._beaten_s
            # From here to the look no sleep: it would let a loop go on that a C call just gave back.
            if now_s < beaten_s + BEAT_S + LATE_S:
                due_s = beaten_s + BEAT_S + LATE_S
                continue
            overslept_s, computed_s = now_s - due_s, time.process_time() - computed_s
            if overslept_s > MAX_OVERSLEPT_S and computed_s < overslept_s * MIN_BUSY_SHARE:
                due_s = now_s + LATE_S  # the loop was not let run either: another chance
                continue
            places, call = self._look()
            if places and self._beaten_s == beaten_s:
                return beaten_s, places, call
            due_s = now_s + BEAT_S

    def _look(self) -> tuple[list[Place], str]:
        """Where the loop's thread is, outermost first, and for which call; no places while it is idle."""
        frame = sys._current_frames().get(self._thread)
        places: list[Place] = []
        call = ""
        while frame is not None and frame is not self._host:
            if len(places) < MAX_FRAMES:
                places.append((frame.f_code, frame.f_lineno))
            if frame.f_code in self._entries:
                call = frame.f_locals.get("call_id", "")
            frame = frame.f_back
        return places[::-1], call or (self._call_now() if places else "")

    def _tell(self, text: str, call: str) -> None:
        with self._writing:
            if not self._is_over:
                self._journal.stderr.hand_on(text, call)


def _begun(late_s: float, call: str) -> str:
    who = "this call" if call else "code of this function"
    return f"tailrace: {who} has kept every other call of its replica waiting for {late_s:.1f} s. "


def _went_on(took_s: float) -> str:
    return f"tailrace: the other calls go on, after about {took_s:.1f} s\n"


def _never(_: float, __: Callable[[], None]) -> None:
    """Stands for a loop's timer before the start."""
