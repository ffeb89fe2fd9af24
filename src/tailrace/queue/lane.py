"""Hands out the messages of one consumer, so many at once, and keeps them in hand until they are settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tailrace.errors import TailraceError
from tailrace.runs.tasks import end_tasks

logger = logging.getLogger(__name__)

FETCH_S = 5.0
BATCH = 64
AGAIN_S = 0.5
# A call whose try could not be made or judged, because something does not answer, waits so long.
UNSURE_S = 2.0
TELL_S = 10.0

Pull = Callable[[], Awaitable[JetStreamContext.PullSubscription]]
# Seconds until the message is handed out again; None: it is settled.
Handle = Callable[[Msg], Awaitable[float | None]]


class Hand:
    """The messages that a worker has in hand, and their sign of life. ``is_empty``: there is none."""

    def __init__(self) -> None:
        # By their stream and place in it.
        self._held: dict[tuple[str, int], Msg] = {}
        self.is_empty = asyncio.Event()
        self.is_empty.set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, message: Msg) -> bool:
        """Whether it is new. One that is in hand, and was taken for lost, is answered for from now on."""
        place = _place(message)
        is_new = place not in self._held
        self._held[place] = message
        self.is_empty.clear()
        return is_new

    def give(self, message: Msg) -> Msg:
        """It is settled, or goes back; its newest copy is the one to answer to."""
        newest = self._held.pop(_place(message), message)
        if not self._held:
            self.is_empty.set()
        return newest

    async def tell_alive(self) -> None:
        """Have none of them handed out to somebody else."""
        for message in list(self._held.values()):
            with contextlib.suppress(nats.errors.Error):
                await message.in_progress()


def _place(message: Msg) -> tuple[str, int]:
    return message.metadata.stream, message.metadata.sequence.stream


class Lane:
    """One consumer's messages.

    Args:
        room: How many may be in work at once, now.
        idle_s: Without a message for so long it ends by itself; infinite: never.
    """

    def __init__(
        self, pull: Pull, handle: Handle, room: Callable[[], Awaitable[int]], hand: Hand, *, idle_s: float
    ) -> None:
        self._pull = pull
        self._handle = handle
        self._room = room
        self._hand = hand
        self._idle_s = idle_s
        self._works: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._told_at = -TELL_S
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_over(self) -> bool:
        """Whether it has ended by itself, and has nothing in work."""
        return self._task.done() and not self._works

    def stop(self) -> None:
        """Take nothing more; what is in work goes on."""
        self._is_stopping = True
        self._task.cancel()

    async def aclose(self) -> None:
        """Take nothing more and leave what is in work: it is handed out again."""
        self.stop()
        await end_tasks((self._task, *self._works))

    async def _run(self) -> None:
        while not self._is_stopping:
            try:
                await self._take_all()
            except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError, TailraceError) as failed:
                logger.debug("nothing is handed out: %s", failed or type(failed).__name__)
                await asyncio.sleep(AGAIN_S)
            except Exception:
                logger.exception("handing out failed")
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _take_all(self) -> None:
        """Take messages until there is none for so long."""
        loop = asyncio.get_running_loop()
        subscription = await self._pull()
        last = loop.time()
        try:
            while not self._is_stopping:
                room = await self._room() - len(self._works)
                if room <= 0 and not self._works:
                    return  # there is no such function any more
                if room <= 0:
                    await asyncio.wait(self._works, timeout=FETCH_S, return_when=asyncio.FIRST_COMPLETED)
                    continue
                try:
                    messages = await subscription.fetch(min(room, BATCH), timeout=FETCH_S)
                except TimeoutError:
                    if loop.time() - last >= self._idle_s and not self._works:
                        return
                    continue
                last = loop.time()
                for message in messages:
                    self._begin(message)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    def _tell(self, failed: TailraceError) -> None:
        """Say now and then, not for each message, what does not answer."""
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            logger.warning("calls of the queue wait: %s", failed.message)

    def _begin(self, message: Msg) -> None:
        if self._hand.take(message):
            work = asyncio.get_running_loop().create_task(self._work(message))
            self._works.add(work)
            work.add_done_callback(self._works.discard)

    async def _work(self, message: Msg) -> None:
        again_s: float | None = UNSURE_S
        try:
            again_s = await self._handle(message)
        except TailraceError as failed:
            self._tell(failed)
        except asyncio.CancelledError:
            self._hand.give(message)  # its lease runs out
            raise
        except Exception:
            logger.exception("a queued message failed")
        newest = self._hand.give(message)
        with contextlib.suppress(nats.errors.Error):
            if again_s is None:
                await newest.ack()
            else:
                await newest.nak(delay=again_s)
