"""Who a recorded call answers to once its client has left: nobody, but clocks and drain still hold."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from tailrace.edge.plane import Edge
from tailrace.errors import TailraceError
from tailrace.runs.nowhere import Nowhere


class Unattending(Protocol):
    """The call, as far as it is needed here."""

    def on_clock(self, now: float) -> float: ...

    def end(self, error: TailraceError, reason: str) -> None: ...


class Unattended:
    """To the call it is a client, to the wheel and the plane a connection."""

    __slots__ = ("_call", "_edge", "due_at", "is_paused", "keep_alive", "transport")

    def __init__(self, edge: Edge, call: Unattending) -> None:
        self._edge = edge
        self._call = call
        self.due_at = math.inf
        self.keep_alive = False
        self.is_paused = False
        self.transport: asyncio.Transport = Nowhere()

    def attend(self, at: float) -> None:
        """From now on; look at the call's clocks at this moment at the latest."""
        self._edge.clients.add(self)
        self.look_by(at)

    def close(self) -> None:
        """The call is over."""
        self._edge.clients.discard(self)
        self._edge.wheel.forget(self)

    def on_clock(self, now: float) -> float:
        """Do what is due; when to look again."""
        return self._call.on_clock(now)

    def look_by(self, at: float) -> None:
        """Look at the call's clocks at this moment at the latest."""
        if at < self.due_at:
            self._edge.wheel.look_by(self, at)

    def end(self, error: TailraceError, reason: str) -> None:
        """End the call."""
        self._call.end(error, reason)

    def close_idle(self) -> None:
        """It is never idle."""

    def take_no_more(self) -> bool:
        """It takes nothing."""
        return False

    def held_bytes(self) -> int:
        """What is recorded is counted elsewhere."""
        return 0

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def pause_reading(self) -> None:
        """Its request is complete."""

    def resume_reading(self) -> None:
        """Its request is complete."""

    def call_over(self, call: object) -> None:
        """Nothing comes after it."""

    def cut(self, *, with_reset: bool) -> None:
        """There is no connection."""

    def hand_over(self) -> bytes:
        """A recorded call becomes no tunnel."""
        return b""
