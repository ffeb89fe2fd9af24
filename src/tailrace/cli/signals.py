"""Ctrl-C, the signals that ask a server to end, and the one that asks it to read its settings again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
from collections.abc import Coroutine

from tailrace.cli.result import INTERRUPTED, Result

# A wrapper (timeout, uv run, make) passes on the Ctrl-C that the terminal has sent to us too.
_SAME_PRESS_S = 0.2
_STOPS = (signal.SIGINT, signal.SIGTERM)
# What cleaning up may take once a drain is cut short; replicas that are left end with their lifeline.
_CUT_SHORT_S = 0.7
# A shell that ends may hang up its children a moment before their terminal is gone.
_TERMINAL_S = 0.2


class Wishes:
    """What signals ask of a server that does more than end.

    Attributes:
        can_drain: Set it to True when calls can be open: then the first SIGTERM or Ctrl-C sets ``drain``.
        drain: Let calls finish, then end. A second signal cancels the work.
        reload: Read the settings again. Whoever does clears it.
    """

    def __init__(self) -> None:
        self.can_drain = False
        self.drain = asyncio.Event()
        self.reload = asyncio.Event()


def run_until_stopped(work: Coroutine[object, object, None], wishes: Wishes | None = None) -> Result:
    """Run work on uvloop until it ends or a signal asks to stop; then it is cancelled and cleans up.

    Stopping this way is how such a command ends, so the exit code is 0. A second signal ends the process
    at once with exit code 130; replicas hold a lifeline and end with it.

    Args:
        wishes: Of a server that drains and reloads. SIGHUP then reloads, unless the terminal that the
            server was started in is gone: that asks it to stop, as SIGHUP always does without wishes. A
            second signal while it drains cancels the work, which has 0.7 s to clean up; exit code 130.
    """
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_stoppable(work, wishes))


async def _stoppable(work: Coroutine[object, object, None], wishes: Wishes | None) -> Result:
    loop = asyncio.get_running_loop()
    presses = _Presses(loop, loop.create_task(work), wishes)
    for number in _STOPS:
        loop.add_signal_handler(number, presses.stop)
    # nohup has it ignored: what the terminal does is then no reason to stop.
    terminals = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else _terminals()
    loop.add_signal_handler(signal.SIGHUP, presses.hang_up, terminals)
    try:
        await presses.task
    except asyncio.CancelledError:
        if not presses.is_cancelled:
            raise
    finally:
        for number in (*_STOPS, signal.SIGHUP):
            loop.remove_signal_handler(number)
    return Result(exit_code=INTERRUPTED if presses.is_cut_short else 0)


class _Presses:
    """What a signal does, by what came before it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], wishes: Wishes | None
    ) -> None:
        self.task = task
        self.is_cancelled = False
        self.is_cut_short = False
        self._loop = loop
        self._wishes = wishes
        self._last: float | None = None

    def stop(self) -> None:
        """Drain at first, where that is possible; then end; then end at once."""
        now = self._loop.time()
        if self._last is not None and now - self._last <= _SAME_PRESS_S:
            return
        is_first, self._last = self._last is None, now
        if is_first and self._wishes is not None and self._wishes.can_drain:
            self._wishes.drain.set()
        elif self.is_cancelled:
            os._exit(INTERRUPTED)
        else:
            self._cancel(is_cut_short=not is_first)

    def hang_up(self, terminals: list[int]) -> None:
        """SIGHUP: reload, or stop where nobody reloads or the terminal is gone."""
        if self._wishes is None:
            self.stop()
        elif terminals:
            self._loop.call_later(_TERMINAL_S, self._look_at, terminals, self._wishes)
        else:
            self._wishes.reload.set()

    def _look_at(self, terminals: list[int], wishes: Wishes) -> None:
        gone = [fd for fd in terminals if _is_gone(fd)]
        if not gone:
            wishes.reload.set()
            return
        nowhere = os.open(os.devnull, os.O_RDWR)  # each line of the log would be an error from here on
        for fd in gone:
            os.dup2(nowhere, fd)
        os.close(nowhere)
        self.stop()

    def _cancel(self, *, is_cut_short: bool) -> None:
        self.is_cancelled, self.is_cut_short = True, is_cut_short
        if is_cut_short:
            self._loop.call_later(_CUT_SHORT_S, os._exit, INTERRUPTED)
        elif sys.stderr.isatty():
            sys.stderr.write("\r\nstopping\n")
        self.task.cancel()


def _terminals() -> list[int]:
    """Of stdin, stdout and stderr those that are a terminal."""
    found = []
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(fd):
                found.append(fd)
    return found


def _is_gone(fd: int) -> bool:
    """Whether the terminal behind the descriptor was hung up: nothing can be asked of it any more."""
    try:
        termios.tcgetattr(fd)
    except termios.error:
        return True
    return False
