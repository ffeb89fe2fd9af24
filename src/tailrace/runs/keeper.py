"""The runs of one gateway: those that go on here, those that are watched here; and how gateways talk of them.

tailrace.alive                 every gateway, each second: its name
tailrace.gateway.NAME.stop     end this run of yours (answered with its record)
tailrace.gateway.NAME.watch    so many viewers of this run of yours are here
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace.errors import NotFound, RunExpired, RunStopped, RunsUnavailable
from tailrace.runs.claims import Claim
from tailrace.runs.feed import Feed
from tailrace.runs.ids import is_run_id
from tailrace.runs.janitor import Janitor
from tailrace.runs.journal import LATE_LIMIT, Journal
from tailrace.runs.log import Log
from tailrace.runs.numbers import RunNumbers
from tailrace.runs.peers import BEAT_S, LEASE_S, Peers
from tailrace.runs.policy import CANCEL, CONTINUE, Policy
from tailrace.runs.record import Record, decode_record, encode_record
from tailrace.runs.run import Run, Runner
from tailrace.runs.store import Bounds, Store, stream_of
from tailrace.runs.tasks import end_tasks
from tailrace.runs.tries import Earlier, Tries
from tailrace.settings import Settings

logger = logging.getLogger(__name__)

# The reason that runs end with which somebody stopped.
CANCELLED = "cancelled"
ASK_S = 2.0
SWEEP_S = 30.0
# A run that is over stays in memory for those who come back at once.
LINGER_S = 5.0
# A record is looked for so long when a claim tells that it must be there soon.
RECORD_S = 5.0
# An id that is told to a client is known to the other gateways so soon, unless JetStream is slow.
SOON_S = 0.1
_LOOK_S = 0.02
# Of a bound that deletes events unasked, how full is told.
_NEARLY = 0.95


class _Watch(msgspec.Struct):
    gateway: str
    run: str
    viewers: int


class Runs:
    """What the edge, the control plane and the queue ask about runs.

    Args:
        client: Connected; belongs to somebody else.
        name: This gateway's, as `peers.gateway_name` makes it.
    """

    def __init__(
        self, client: Client, name: str, settings: Settings, numbers: RunNumbers | None = None
    ) -> None:
        self.name = name
        self.numbers = numbers or RunNumbers()
        self.store = Store(client)
        self.journal = Journal(client, stream_of)
        self.tries = Tries(self.store, self.journal)
        self._client = client
        # Those in force; a reload replaces them.
        self.settings = settings
        self._peers = Peers(name, time.monotonic())
        self._janitor = Janitor(
            self.store,
            lambda: (self.settings.run_keep_s, self.settings.run_async_keep_s),
            lambda gateway: self._peers.is_alive(gateway, time.monotonic()),
        )
        self._live: dict[str, Run] = {}
        self._over: dict[str, float] = {}
        self._feeds: dict[str, Feed] = {}
        self._alone: dict[str, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._sweep_now = asyncio.Event()

    async def start(self, bounds: Bounds) -> None:
        """Make the streams, listen to the other gateways, and close what an earlier start left open.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        await self.store.prepare(bounds)
        client = self._client
        await client.subscribe("tailrace.alive", cb=self._on_alive)
        await client.subscribe(f"tailrace.gateway.{self.name}.stop", cb=self._on_stop)
        await client.subscribe(f"tailrace.gateway.{self.name}.watch", cb=self._on_watch)
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._sweep())]

    async def aclose(self) -> None:
        """Write what is left, for a bounded time, and stop. The calls have ended before."""
        await end_tasks(self._tasks)
        for timer in self._alone.values():
            timer.cancel()
        for feed in list(self._feeds.values()):
            await feed.aclose()
        await self.journal.aclose(2.0 if self._client.is_connected else 0.0)
        with contextlib.suppress(nats.errors.Error):
            await self._client.publish("tailrace.alive", b"-" + self.name.encode())

    # For the edge.

    def begin(
        self, run: str, function: str, call: Runner, policy: Policy, *, key: str = "",
        earlier: Earlier | None = None,
    ) -> Run:  # fmt: skip
        """A run begins here, with its first client watching; or its next try, for a call of the queue."""
        why = "JetStream is not reachable" if self.journal.is_down or not self._client.is_connected else ""
        now = time.time()
        record = Record(run, function, "queued", now, gateway=self.name, key=key, unrecorded=why)
        if earlier is not None:
            record = replace(earlier.record, gateway=self.name, unrecorded=why)
        if why and policy != CONTINUE:
            policy = CANCEL  # nobody could come back to it
        begun = self._live[run] = Run(record, policy, self.journal, earlier.pieces if earlier else ())
        begun.call = call
        begun.attendance.join()
        self.numbers.started += 1
        return begun

    def is_left(self, run: Run) -> bool:
        """A viewer has left; whether the run is to end for it now, as everybody has."""
        if not run.attendance.leave() or run.record.is_over:
            return False
        return self._on_all_gone(run)

    def _on_all_gone(self, run: Run) -> bool:
        policy = run.policy if run.is_recording or run.policy == CONTINUE else CANCEL
        if policy == CANCEL:
            self.numbers.ended_alone += 1
            return True
        if policy != CONTINUE:
            loop = asyncio.get_running_loop()
            self._alone[run.id] = loop.call_later(policy.grace_s, self._end_alone, run)
        return False

    def _end_alone(self, run: Run) -> None:
        self._alone.pop(run.id, None)
        if not run.attendance.count and not run.record.is_over and run.call is not None:
            self.numbers.ended_alone += 1
            run.call.abandon()

    def over(self, run: Run) -> None:
        """A run has ended here; it stays in memory for a moment."""
        if run.record.is_over:
            self._over[run.id] = time.monotonic()
        else:
            del self._live[run.id]  # the journal writes it; its next try may begin anywhere
        self.numbers.truncated += run.record.is_truncated
        self.numbers.unrecorded += bool(run.record.unrecorded)
        timer = self._alone.pop(run.id, None)
        if timer is not None:
            timer.cancel()
        run.call = None

    async def claim(self, name: str, claim: Claim) -> Claim:
        """Take an idempotency key; who holds it: this claim, or an earlier one.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        return await self.store.claim(name, claim)

    @property
    def held_bytes(self) -> int:
        """What is held of runs in memory."""
        logs: list[Log] = [run.log for run in self._live.values()]
        logs += [feed.log for feed in self._feeds.values()]
        return sum(log.held_bytes for log in logs)

    # For the control plane.

    async def find(self, run: str, *, wait_s: float = SOON_S) -> Record:
        """A run's record.

        Args:
            wait_s: How long to wait for a record that may be on its way.
        Raises:
            NotFound: no run has this id, or its record is gone too.
            RunsUnavailable: JetStream does not answer.
        """
        until = time.monotonic() + wait_s
        while True:
            live = self._live.get(run)
            if live is not None:
                return live.snapshot()
            record = await self.store.find_record(run) if is_run_id(run) else None
            if record is not None:
                return record
            if time.monotonic() >= until:
                raise NotFound(f"there is no run '{run[:40]}', or it was forgotten long after its end")
            await asyncio.sleep(_LOOK_S)

    def newer(self, record: Record) -> Record:
        """The record as it is now, where the run goes on here."""
        live = self._live.get(record.id)
        return live.snapshot() if live is not None else record

    @contextlib.asynccontextmanager
    async def view(self, run: str, *, wait_s: float = SOON_S) -> AsyncIterator[tuple[Record, Log]]:
        """Watch a run while the context is open: its record, and the log that grows.

        Raises:
            NotFound: no run has this id.
            RunExpired: its events are no longer kept.
            RunsUnavailable: JetStream does not answer.
        """
        record = await self.find(run, wait_s=wait_s)
        if record.expired_at is not None:
            raise RunExpired(f"the events of run '{run}' are no longer kept: it ended long enough ago")
        self.numbers.viewers += 1
        try:
            live = self._live.get(run)
            # A call of the queue may go on at another gateway, so it is read from where all of them write.
            if live is not None and not record.is_async:
                with self._attending(live):
                    yield record, live.log
            else:
                async with self._feeding(record) as log:
                    yield record, log
        finally:
            self.numbers.viewers -= 1

    @contextlib.contextmanager
    def _attending(self, run: Run) -> Iterator[None]:
        run.attendance.join()
        timer = self._alone.pop(run.id, None)
        if timer is not None:
            timer.cancel()
        try:
            yield
        finally:
            if self.is_left(run) and run.call is not None:
                run.call.abandon()

    @contextlib.asynccontextmanager
    async def _feeding(self, record: Record) -> AsyncIterator[Log]:
        feed = self._feeds.get(record.id)
        if feed is None:
            feed = self._feeds[record.id] = Feed(self.store, record)
        feed.viewers += 1
        await self._tell_watching(record, feed.viewers)
        try:
            yield feed.log
        finally:
            feed.viewers -= 1
            if not feed.viewers:
                self._feeds.pop(record.id, None)
                await self._tell_watching(record, 0)
                await feed.aclose()

    async def _tell_watching(self, record: Record, viewers: int) -> None:
        if record.gateway and not record.is_over:
            told = msgspec.json.encode(_Watch(self.name, record.id, viewers))
            with contextlib.suppress(nats.errors.Error):
                await self._client.publish(f"tailrace.gateway.{record.gateway}.watch", told)

    async def stop(self, run: str) -> Record:
        """End a run wherever it goes on; its record, which is final. One that is over stays as it is.

        Raises:
            NotFound: no run has this id.
            RunsUnavailable: the gateway that runs it, or JetStream, does not answer.
        """
        live = self._live.get(run)
        if live is not None:
            return self._stop_here(live)
        record = await self.find(run)
        if record.is_over:
            return record
        if not record.gateway:
            return await self.tries.end(record, "cancelled", CANCELLED, _STOPPED)
        try:
            answer = await self._client.request(
                f"tailrace.gateway.{record.gateway}.stop", run.encode(), timeout=ASK_S
            )
        except (nats.errors.Error, TimeoutError) as failed:
            raise RunsUnavailable("the gateway that runs it does not answer; ask again soon") from failed
        told = decode_record(answer.data)
        return told if told is not None else await self.find(run)

    def _stop_here(self, run: Run) -> Record:
        if run.call is not None and not run.record.is_over:
            run.call.end(RunStopped(_STOPPED), CANCELLED)
        return run.snapshot()

    # What other gateways say.

    async def _on_alive(self, message: Msg) -> None:
        name = message.data.decode("ascii", "replace")
        if name.startswith("-"):
            self._peers.hear_leaving(name[1:])
        elif self._peers.hear(name, time.monotonic()):
            for run in self._live.values():
                run.say_again()

    async def _on_stop(self, message: Msg) -> None:
        run = self._live.get(message.data.decode("ascii", "replace"))
        told = encode_record(self._stop_here(run)) if run is not None else b""
        if message.reply:
            await self._client.publish(message.reply, told)

    async def _on_watch(self, message: Msg) -> None:
        try:
            told = msgspec.json.decode(message.data, type=_Watch)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        run = self._live.get(told.run)
        if run is None or run.record.is_over:
            return
        until = time.monotonic() + LEASE_S
        if run.attendance.heard(told.gateway, viewers=told.viewers, until=until):
            self._after_leaving_elsewhere(run)
        elif told.viewers and (timer := self._alone.pop(run.id, None)) is not None:
            timer.cancel()

    def _after_leaving_elsewhere(self, run: Run) -> None:
        if self._on_all_gone(run) and run.call is not None:
            run.call.abandon()

    # What is done by time.

    async def _beat(self) -> None:
        while True:
            now = time.monotonic()
            with contextlib.suppress(nats.errors.Error):
                await self._client.publish("tailrace.alive", self.name.encode())
                for feed in list(self._feeds.values()):
                    if feed.log.end is None:
                        await self._tell_watching(feed.record, feed.viewers)
            for live in list(self._live.values()):
                if live.attendance.forget_silent(now) and not live.record.is_over:
                    self._after_leaving_elsewhere(live)
            self._forget_over(now)
            self.numbers.is_down = self.journal.failing_since > 0
            if self._peers.fell_silent(now):
                self._sweep_now.set()
            await asyncio.sleep(BEAT_S)

    def _forget_over(self, now: float) -> None:
        keep_s, too_many = self.settings.run_keep_s, len(self._over) - LATE_LIMIT
        for run, since in list(self._over.items()):
            live = self._live[run]
            is_old = now - since > LINGER_S and live.is_settled and live.is_written
            # Without NATS none is written; the journal gives up the oldest records then, and so is this.
            is_old = is_old or (too_many > 0 and bool(live.record.unrecorded))
            if (is_old and not live.attendance.count) or now - since > keep_s + LINGER_S:
                del self._over[run], self._live[run]
                too_many -= 1

    async def sweep(self) -> None:
        """Close what dead gateways left open, delete what has expired, look how full it is.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        self.numbers.lost += await self._janitor.sweep()
        await self._look_at_bounds()

    async def _sweep(self) -> None:
        while True:
            try:
                await self.sweep()
            except RunsUnavailable as failed:
                logger.debug("no sweep over the runs: %s", failed.message)
            except Exception:
                logger.exception("a sweep over the runs failed")
            self._sweep_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._sweep_now.wait()

    async def _look_at_bounds(self) -> None:
        before, self.numbers.fullness = self.numbers.fullness, await self.store.fullness()
        for bound, full in self.numbers.fullness.items():
            if full >= _NEARLY > before.get(bound, 0.0):
                logger.warning("runs are near %s: the oldest events are deleted before their time", bound)


_STOPPED = "the run was stopped"
