"""One answer on its way: which tokens are due now, and how it ends. One timer per answer.

start ──ttft──▶ first token ──1/tps──▶ token ... ──▶ finish          at once with the last token
                                                └──▶ reset, cut ...  where the next token would be due
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from tailrace.llm.behaviour import EndKind
from tailrace.llm.mock.ask import Ask
from tailrace.llm.mock.dialects import MALFORMED, MID_STREAM_ERROR, Dialect
from tailrace.llm.mock.record import RequestRecord

# At tps=0, tokens written in one turn of the loop; more would keep the other streams waiting.
_BURST = 256


class Outlet(Protocol):
    """Where an answer goes: the connection, which knows HTTP."""

    def send_head(self, status: int, content_type: str, length: int | None) -> None: ...
    def send_body(self, pieces: list[bytes]) -> None: ...
    def end_body(self) -> None: ...
    def send_error(self, status: int, message: str, kind: str, retry_after_s: int | None = None) -> None: ...
    def reset(self) -> None: ...
    def cut(self) -> None: ...


class Answer:
    """Sends one answer through an outlet.

    Args:
        note: Called after the first token and at the end, when `record` has changed.
    """

    def __init__(
        self, ask: Ask, dialect: Dialect, outlet: Outlet, record: RequestRecord, note: Callable[[], None]
    ) -> None:
        self._ask, self._dialect, self._outlet = ask, dialect, outlet
        self._record, self._note = record, note
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._end, self._stop_at = ask.behaviour.end(len(ask.tokens))
        self._interval_s = 1 / ask.behaviour.tps if ask.behaviour.tps else 0.0
        self._sent = 0
        self._has_head = False
        self._is_paused = False
        self._first_due = 0.0

    def start(self) -> None:
        """Begin; everything else happens on the loop's timers."""
        behaviour = self._ask.behaviour
        self._first_due = self._loop.time() + behaviour.ttft_s
        if behaviour.early_head and self._ask.stream:
            self._head()
        self._timer = self._loop.call_at(self._first_due, self._tick)

    def stop(self) -> None:
        """The client is gone, or the mock is closing: send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause(self) -> None:
        """The client does not read: hold the tokens that fall due."""
        self._is_paused = True
        self.stop()

    def resume(self) -> None:
        """The client reads again: what fell due meanwhile comes at once."""
        self._is_paused = False
        if self._record.outcome == "running":
            self._timer = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._timer = None
        due = self._due()
        if self._ask.stream:
            self._send(due)
        else:
            self._sent = due
        if self._is_paused:  # the write above filled the buffer
            return
        end_at = self._first_due + self._stop_at * self._interval_s
        if self._sent >= self._stop_at and (self._end == "finish" or self._loop.time() >= end_at):
            self._finish(self._end)
        else:
            self._schedule()

    def _due(self) -> int:
        """How many tokens should have been sent by now."""
        if not self._interval_s:
            return min(self._stop_at, self._sent + _BURST)
        # Half a millisecond early counts: timers fire within the loop's clock resolution.
        late_s = self._loop.time() - self._first_due + 0.0005
        return min(self._stop_at, 1 + int(late_s / self._interval_s))

    def _schedule(self) -> None:
        if not self._interval_s:
            self._timer = self._loop.call_soon(self._tick)
            return
        # A whole answer comes when its last token would: nothing is to do before.
        upto = self._sent if self._ask.stream else self._stop_at - (self._end == "finish")
        self._timer = self._loop.call_at(self._first_due + upto * self._interval_s, self._tick)

    def _send(self, due: int) -> None:
        if due <= self._sent:
            return
        is_first = not self._sent
        token = self._dialect.token
        opening = self._dialect.opening() if is_first else b""
        pieces = [token(text) for text in self._ask.tokens[self._sent : due]]
        if is_first:
            self._head()
            pieces[0] = opening + pieces[0]
        record, self._sent = self._record, due
        record.tokens_sent, record.last_token_at = due, time.monotonic()
        self._outlet.send_body(pieces)
        if is_first:
            record.first_token_at = record.last_token_at
            self._note()

    def _head(self) -> None:
        if not self._has_head:
            self._has_head = True
            self._outlet.send_head(200, "text/event-stream", None)

    def _finish(self, end: EndKind) -> None:
        self._record.outcome = end
        if end == "reset":
            self._outlet.reset()
        elif end == "cut" and self._ask.stream:
            self._outlet.cut()
        elif end == "error" and not (self._has_head and self._ask.stream):
            self._outlet.send_error(500, "the mock was told to fail here", "server_error")
        elif end != "stall" and self._ask.stream:
            self._finish_stream(end)
        elif end != "stall":
            self._finish_whole(end)
        self._note()

    def _finish_stream(self, end: EndKind) -> None:
        self._head()
        last = {
            "error": MID_STREAM_ERROR,
            "malformed": MALFORMED,
            "truncate": b"",
        }.get(end)
        if last is None:
            last = self._dialect.closing()
        if last:
            self._outlet.send_body([last])
        self._outlet.end_body()

    def _finish_whole(self, end: EndKind) -> None:
        body = self._dialect.whole()
        part = body if end == "finish" else body[: len(body) // 2]
        # Truncated is half of it said to be all; cut is half of what the length promises.
        self._outlet.send_head(200, "application/json", len(part) if end != "cut" else len(body))
        self._outlet.send_body([part])
        if end == "cut":
            self._outlet.cut()
        else:
            self._record.tokens_sent = self._stop_at
            self._record.first_token_at = self._record.last_token_at = time.monotonic()
            self._outlet.end_body()
