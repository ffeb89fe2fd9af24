"""What happened on every connection, in monotonic seconds, so that a test can say who hung up and when."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

# Ended connections that are kept; the oldest go first. Open ones are always kept.
KEPT = 10_000
# Requests kept per connection; a keep-alive client may send any number.
KEPT_REQUESTS = 100

ClosedBy = Literal["client", "server"]


@dataclass(slots=True)
class RequestRecord:
    """One request for an answer. Instants are `time.monotonic` seconds; None: it has not happened.

    ``outcome``: ``running``, how it ended (``finish``, ``reset``, ``cut``, ``error``, ``truncate``,
    ``malformed``, ``status``), ``stall`` while silent, or ``client_left``.
    """

    path: str
    model: str
    stream: bool
    received_at: float
    first_token_at: float | None = None
    last_token_at: float | None = None
    tokens_sent: int = 0
    outcome: str = "running"

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in RequestRecord.__slots__}


@dataclass(slots=True)
class ConnectionRecord:
    """One connection. ``closed_by`` tells who ended it; None while it is open."""

    id: int
    peer_port: int
    opened_at: float
    requests: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    closed_at: float | None = None
    closed_by: ClosedBy | None = None
    # It asks about the mock instead of using it, so it is in nobody's way.
    is_control: bool = False

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "peer_port": self.peer_port,
            "opened_at": self.opened_at,
            "closed_at": self.closed_at,
            "closed_by": self.closed_by,
            "requests": [request.as_json() for request in self.requests],
        }


class ConnectionLog:
    """The connections of one mock, oldest first."""

    def __init__(self) -> None:
        self._open: dict[int, ConnectionRecord] = {}
        self._ended: deque[ConnectionRecord] = deque(maxlen=KEPT)
        self._ids = count(1)
        self._waiting: list[tuple[Callable[[ConnectionLog], bool], asyncio.Future[None]]] = []

    def __iter__(self) -> Iterator[ConnectionRecord]:
        both = [*self._ended, *self._open.values()]
        return iter(sorted((c for c in both if not c.is_control), key=lambda c: c.id))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request of every connection, in the order of the connections."""
        return [request for connection in self for request in connection.requests]

    @property
    def client_closed(self) -> int:
        """How many connections the client ended."""
        return sum(1 for connection in self if connection.closed_by == "client")

    def open(self, peer_port: int) -> ConnectionRecord:
        """Note a new connection; pass what it returns to `close`."""
        record = ConnectionRecord(next(self._ids), peer_port, time.monotonic())
        self._open[record.id] = record
        self.notify()
        return record

    def close(self, record: ConnectionRecord, by: ClosedBy) -> None:
        """Note the end of a connection; the first word about it stands."""
        if self._open.pop(record.id, None) is None:
            return
        record.closed_at, record.closed_by = time.monotonic(), by
        self._ended.append(record)
        self.notify()

    def clear(self) -> None:
        """Forget the connections that have ended."""
        self._ended.clear()

    def notify(self) -> None:
        """Let those who wait look again."""
        for condition, future in self._waiting:
            if not future.done() and condition(self):
                future.set_result(None)

    async def wait_until(self, condition: Callable[[ConnectionLog], bool], *, timeout_s: float = 5.0) -> None:
        """Return once the condition holds; it is asked after each opening, request, first token and closing.

        Raises:
            TimeoutError: it did not within `timeout_s` seconds.
        """
        if condition(self):
            return
        entry = (condition, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await entry[1]
        finally:
            self._waiting.remove(entry)
