"""Ctrl-C, and the signals that ask a server to end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine

from tailrace.cli.result import INTERRUPTED, Result

# A wrapper (timeout, uv run, make) passes on the Ctrl-C that the terminal has sent to us too.
_SAME_PRESS_S = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_stopped(work: Coroutine[object, object, None]) -> Result:
    """Run work on uvloop until it ends or a signal asks to stop; then it is cancelled and cleans up.

    Stopping this way is how such a command ends, so the exit code is 0. A second signal ends the process
    at once with exit code 130; replicas hold a lifeline and end with it.
    """
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_stoppable(work))


async def _stoppable(work: Coroutine[object, object, None]) -> Result:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    stopping_since: float | None = None

    def stop() -> None:
        nonlocal stopping_since
        if stopping_since is not None:
            if loop.time() - stopping_since > _SAME_PRESS_S:
                os._exit(INTERRUPTED)
            return
        stopping_since = loop.time()
        if sys.stderr.isatty():
            sys.stderr.write("\r\nstopping\n")
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if stopping_since is None:
            raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return Result()
