"""Which log lines `up` leaves out, because the outcome of a start tells the same and better. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tailrace.model import LogLine
from tailrace.names import FunctionName

_HELD_LINES = 200


class StartLines:
    """Holds a starting replica's traceback until its start is known to have worked or failed.

    A handler that cannot be imported is retried, and each try writes its traceback and the platform's
    words; the person needs it once, with what to do.

    Args:
        is_ready: Whether the instance of the function takes calls; its lines are always shown.
    """

    def __init__(self, is_ready: Callable[[FunctionName, str], bool]) -> None:
        self._is_ready = is_ready
        self._states: dict[FunctionName, Literal["starting", "failed"]] = {}
        self._held: dict[FunctionName, list[LogLine]] = {}

    def begin(self, name: FunctionName) -> None:
        """New code of the function is on its way."""
        self._states[name] = "starting"
        self._held.pop(name, None)

    def settle(self, name: FunctionName, *, is_ready: bool) -> list[LogLine]:
        """The start worked or failed; lines to show after all."""
        held = self._held.pop(name, [])
        if is_ready:
            self._states.pop(name, None)
            return held
        self._states[name] = "failed"
        return []

    def take(self, line: LogLine) -> bool:
        """Whether to show the line now."""
        name, state = line.function, self._states.get(line.function)
        if state == "failed" and line.instance == "tailrace" and line.text.startswith("installing "):
            return False  # each retry says so again, and none says how it ended unless it worked
        if state is None or line.call_id or line.stream != "stderr":
            return True
        if line.instance == "tailrace":
            return False
        if self._is_ready(name, line.instance):
            return True
        if state == "failed":
            return False
        if name not in self._held and not line.text.startswith(("Traceback (most recent", '  File "')):
            return True
        held = self._held.setdefault(name, [])
        if len(held) < _HELD_LINES:
            held.append(line)
        return False
