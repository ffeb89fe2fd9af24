"""The data plane of one gateway: what all calls share, who is connected, and how it comes to an end."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Protocol

from tailrace.edge import ends
from tailrace.edge.calllog import CallLog
from tailrace.edge.clocks import Clocks, clocks_of
from tailrace.edge.heads import Request
from tailrace.edge.numbers import FunctionNumbers, Numbers
from tailrace.edge.outbox import Outbox
from tailrace.edge.pool import Pool
from tailrace.edge.proxies import Proxies
from tailrace.edge.wheel import Wheel
from tailrace.errors import Draining, Stopped, TailraceError
from tailrace.functions.table import Function, Table
from tailrace.options import FunctionOptions
from tailrace.provider.contract import Address
from tailrace.runs.keeper import Runs
from tailrace.settings import Settings

# How long what was written last may take to leave when everything ends.
FLUSH_S = 1.0
# How long the request of a client that has just connected may be on its way when a drain begins.
FIRST_REQUEST_S = 0.25
# How often clients are asked what is still under way.
_ASK_S = 0.01
# How often the bytes that are held for everybody are counted anew.
COUNT_S = 1.0


class Connected(Protocol):
    """A client's connection, as far as the plane knows it."""

    transport: asyncio.Transport

    def end(self, error: TailraceError, reason: str) -> None:
        """End its call with this error, as truthfully as its state allows, and close it."""

    def close_idle(self) -> None:
        """Close it when no call runs on it."""

    def take_no_more(self) -> bool:
        """Take no request but one that runs or is on its way; True in the second case. Idle: close it."""

    def held_bytes(self) -> int:
        """Bytes held for it, beside the sockets' own buffers."""


class Client(Connected, Protocol):
    """What a call asks of the connection it answers on."""

    keep_alive: bool

    @property
    def is_paused(self) -> bool:
        """Whether its upload is held back."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def look_by(self, at: float) -> None:
        """Look at the call's clocks at this moment at the latest."""

    def call_over(self, call: object) -> None:
        """The answer is written; the connection may take its next request, or close."""

    def cut(self, *, with_reset: bool) -> None:
        """End the connection so that no client can take the body for complete."""

    def hand_over(self) -> bytes:
        """Give the transport away; the bytes that came after the request."""


class Entry:
    """What the edge keeps of one function beside the table, valid for these options and settings."""

    __slots__ = ("clocks", "label", "numbers", "options", "settings")

    def __init__(self, function: Function, numbers: FunctionNumbers, settings: Settings) -> None:
        self.numbers = numbers
        self.label = str(function.name).encode()
        self.options: FunctionOptions = function.options
        self.settings = settings
        self.clocks: Clocks = clocks_of(function.options, settings)


class Edge:
    """Shared by every call. `listener.listen` sets ``server``; `drain` and `aclose` end it all.

    Args:
        control: Where the control plane listens: everything that is no function goes there.
        runs: Records calls; None: none is.
        clock: Monotonic seconds; tests move it by hand.
    """

    def __init__(
        self,
        table: Table,
        settings: Settings,
        control: Address,
        *,
        numbers: Numbers | None = None,
        log: CallLog | None = None,
        proxies: Proxies | None = None,
        runs: Runs | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table = table
        self.settings = settings
        self.control = control
        self.numbers = numbers or Numbers()
        self.log = log
        self.proxies = proxies
        self.runs = runs
        self.is_tls = False
        self.clock = clock
        self.pool = Pool()
        self.clients: set[Connected] = set()
        # Those without a call, the one that is idle longest first.
        self.idle: OrderedDict[Connected, None] = OrderedDict()
        self.loop = asyncio.get_running_loop()
        self.outbox = Outbox(self.loop)
        self.wheel = Wheel(self.loop, clock)
        self.server: asyncio.Server | None = None
        self.private: asyncio.Server | None = None
        self.is_draining = False
        self.is_overloaded = False
        self.open_calls = 0
        self._entries: dict[Function, Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._none_open = asyncio.Event()
        self._counting: asyncio.TimerHandle | None = None
        self._date_second = 0
        self._date = b""
        self._count_held()

    def entry(self, function: Function) -> Entry:
        """The function's clocks and numbers."""
        entry = self._entries.get(function)
        if entry is None or entry.options is not function.options or entry.settings is not self.settings:
            for old in [known for known in self._entries if known.is_removed]:
                del self._entries[old]
            numbers = self.numbers.of(str(function.name))
            entry = self._entries[function] = Entry(function, numbers, self.settings)
        return entry

    def date(self) -> bytes:
        """A ``Date`` header line of this second. Source: RFC 9110 section 6.6.1."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._date = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run work that ends with the edge at the latest."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def account(
        self,
        entry: Entry | None,
        request: Request,
        call_id: bytes,
        status: int,
        reason: str,
        sent_bytes: int,
        seconds: tuple[float, float],
    ) -> None:
        """Count and log a call that is over, and let `drain` know of the last one.

        Args:
            entry: None for a function that does not exist, which is only logged.
            seconds: From its head to its first content (infinite without), and to its end.
        """
        first_s, total_s = seconds
        if entry is not None:
            entry.numbers.end(status, reason, total_s)
            self.open_calls -= 1
            if not self.open_calls and self.is_draining:
                self._none_open.set()
        if self.log is not None:
            self.log.write(
                call_id=call_id,
                function=entry.label if entry is not None else request.label or b"",
                method=request.head.method,
                status=status,
                end_reason=reason,
                bytes_out=sent_bytes,
                first_byte_s=first_s if first_s != math.inf else None,
                total_s=total_s,
                client=request.client,
                client_call_id=request.client_id,
            )

    def make_room(self) -> bool:
        """Whether one more client may connect; the one that is idle longest makes room for it."""
        if len(self.clients) < self.settings.connection_limit:
            return True
        if not self.idle:
            return False
        client, _ = self.idle.popitem(last=False)
        client.close_idle()
        return True

    async def drain(self, timeout_s: float) -> None:
        """Take no new connection, let running calls finish, and end the rest when the time is over.

        A call is finished when its client has taken what it was sent.
        """
        self.is_draining = True
        until = self.loop.time() + timeout_s
        if self.server is not None:
            self.server.close()
        await self._wait_first_requests(min(timeout_s, FIRST_REQUEST_S))
        await self._wait_calls(until)
        if self.open_calls:
            error = Draining(f"the gateway is stopping, and the call did not end within {timeout_s:g} s")
            for client in list(self.clients):
                client.end(error, ends.DRAIN)
        self.outbox.flush()
        await self._wait_sent(max(until, self.loop.time() + FLUSH_S))

    async def _wait_first_requests(self, timeout_s: float) -> None:
        """Close who is idle; who has connected and not asked yet would be refused without a reason."""
        until = self.loop.time() + timeout_s
        while True:
            await asyncio.sleep(_ASK_S)  # some were being accepted just now
            coming = [client for client in list(self.clients) if client.take_no_more()]
            if not coming or self.loop.time() >= until:
                break
        for client in coming:
            client.close_idle()

    async def _wait_calls(self, until: float) -> None:
        # Between the last call's end and here a client may have begun another one.
        while self.open_calls and self.loop.time() < until:
            self._none_open.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._none_open.wait()
            except TimeoutError:
                pass

    async def _wait_sent(self, until: float) -> None:
        while any(c.transport.get_write_buffer_size() for c in self.clients):
            if self.loop.time() >= until:
                return
            await asyncio.sleep(_ASK_S)  # transports tell nobody when they have sent all

    async def _stop_calls(self) -> None:
        """End what still runs; what that writes leaves as far as it can at once."""
        if not self.open_calls:
            return
        error = Stopped("the gateway was stopped before the call was complete")
        for client in list(self.clients):
            client.end(error, ends.STOP)
        self.outbox.flush()
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Stop accepting and cut every connection."""
        for server in (self.server, self.private):
            if server is not None:
                server.close()
        if self._counting is not None:
            self._counting.cancel()
        await self._stop_calls()
        for client in list(self.clients):
            client.transport.abort()
        self.wheel.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pool.close()
        # An aborted transport tells its protocol in the next turn of the loop, and is gone after one more.
        for _ in range(2):
            await asyncio.sleep(0)

    def _count_held(self) -> None:
        held = sum(client.held_bytes() for client in self.clients) if self.open_calls else 0
        if self.runs is not None:
            held += self.runs.held_bytes
        self.numbers.buffered_bytes = held
        self.is_overloaded = held > self.settings.buffer_limit
        self._counting = self.loop.call_later(COUNT_S, self._count_held)
