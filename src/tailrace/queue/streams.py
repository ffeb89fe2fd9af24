"""Where the queue is kept in JetStream: calls and results that wait, large bodies, dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)

from tailrace.errors import Overloaded, RunsUnavailable
from tailrace.queue import calls
from tailrace.queue.calls import Callback, DeadLetter, QueuedCall
from tailrace.queue.consumers import CALLBACKS, QUEUE, Consumers
from tailrace.runs.asking import asking
from tailrace.runs.store import ASK_S, Store

BODIES = "TAILRACE_BODIES"
DEAD = "TAILRACE_DEAD"
# A server that dies takes what it was asked with it; one of the gateway's own is back in less than a second.
WRITE_TRIES = 3
# A call that is sent again, because its acknowledgement was lost, is known by its id for so long.
DUPLICATE_S = 120.0
# A full stream refuses with one of these. Source: nats-server errors.json, JSStreamStoreFailedF and others.
_FULL = ("maximum bytes exceeded", "insufficient storage", "insufficient resources", "maximum messages")


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much is kept.

    Attributes:
        max_bytes: Of calls that wait, and once more of large bodies; more is refused.
        dead_keep_s: Dead letters are kept for so long.
        lease_s: A call is handed out again when its worker gives no sign of life for so long.
        copies: Of each message, in a cluster.
    """

    max_bytes: int
    dead_keep_s: float
    lease_s: float
    copies: int = 1


class Streams:
    """Reads and writes them on the connection of a `Store`."""

    def __init__(self, store: Store, bounds: QueueBounds) -> None:
        self.store = store
        self.client: Client = store.client
        self.bounds = bounds
        self._js: JetStreamContext = store.client.jetstream(timeout=ASK_S)
        self.consumers = Consumers(store.client, bounds.lease_s)

    async def prepare(self, notes: Mapping[str, str] | None = None) -> None:
        """Make the streams, or bring them to these bounds.

        Args:
            notes: What `read_notes` is to find from now on.
        Raises:
            RunsUnavailable: JetStream does not answer, or refuses.
        """
        bounds = self.bounds
        queue, callbacks = (
            StreamConfig(
                name=name, subjects=[subjects], storage=StorageType.FILE,
                retention=RetentionPolicy.WORK_QUEUE, discard=DiscardPolicy.NEW, max_bytes=bounds.max_bytes,
                duplicate_window=DUPLICATE_S, num_replicas=bounds.copies,
            )
            for name, subjects in ((QUEUE, calls.CALL_SUBJECTS), (CALLBACKS, calls.CALLBACK_SUBJECTS))
        )  # fmt: skip
        callbacks.metadata = dict(notes or {})
        bodies = StreamConfig(
            name=BODIES, subjects=[calls.BODY_SUBJECTS], storage=StorageType.FILE, allow_direct=True,
            discard=DiscardPolicy.NEW, max_bytes=bounds.max_bytes, duplicate_window=DUPLICATE_S,
            num_replicas=bounds.copies,
        )  # fmt: skip
        dead = StreamConfig(
            name=DEAD, subjects=[calls.DEAD_SUBJECTS], storage=StorageType.FILE, allow_direct=True,
            discard=DiscardPolicy.OLD, max_bytes=bounds.max_bytes, max_msgs_per_subject=1,
            max_age=bounds.dead_keep_s, num_replicas=bounds.copies,
        )  # fmt: skip
        for config in (queue, callbacks, bodies, dead):
            await self.store.keep_stream(config)

    async def read_notes(self) -> dict[str, str]:
        """What was noted at the last `prepare`; empty when there was none.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        info = await self._find_stream()
        return dict(info.config.metadata or {}) if info is not None else {}

    async def read_identity(self) -> str:
        """What tells this store from those of other NATS, over restarts; empty where there is none.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        info = await self._find_stream()
        if info is None or info.created is None:
            return ""
        return hashlib.sha256(f"{CALLBACKS} {info.created.timestamp():f}".encode()).hexdigest()[:16]

    async def _find_stream(self) -> StreamInfo | None:
        async with asking("tell which store it is"):
            try:
                return await self._js.stream_info(CALLBACKS)
            except nats.js.errors.NotFoundError:
                return None

    # Calls and results.

    async def add_call(self, call: QueuedCall) -> None:
        """Keep a call, acknowledged, and have the workers told. A second time it changes nothing.

        Raises:
            RunsUnavailable: JetStream does not answer.
            Overloaded: as much waits as may.
        """
        await self.consumers.open(call.queue, call.function)
        subject = calls.call_subject(call.queue, call.function, call.run)
        await self._write(subject, calls.encode(call), f"{call.run}-{call.drive}")
        with contextlib.suppress(nats.errors.Error):
            await self.client.publish(calls.NOTICE_SUBJECT, f"{call.queue} {call.function}".encode())

    async def add_callback(self, callback: Callback) -> None:
        """Keep a result's delivery, acknowledged. A second time it changes nothing.

        Raises:
            RunsUnavailable: JetStream does not answer.
            Overloaded: as much waits as may.
        """
        message_id = f"{callback.run}-callback-{callback.drive}"
        await self._write(calls.callback_subject(callback.run), calls.encode(callback), message_id)

    async def withdraw(self, run: str) -> None:
        """Take a call out of the queue, wherever it is; its body stays for whoever has it in hand.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("take a call out of its queue"):
            await self._js.purge_stream(QUEUE, subject=calls.call_subject("*", "*.*", run))

    async def count_results(self) -> int:
        """How many results wait to be delivered, those counted that are being sent now.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("count results"):
            return (await self._js.stream_info(CALLBACKS)).state.messages

    async def count_calls(self) -> int:
        """How many calls are kept, whether anything hands them out or not.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("count calls"):
            return (await self._js.stream_info(QUEUE)).state.messages

    async def list_queues(self) -> set[tuple[str, str]]:
        """Queues and functions of which calls are kept.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("list calls"):
            state = (await self._js.stream_info(QUEUE, subjects_filter=calls.CALL_SUBJECTS)).state
        found = (calls.parse_consumer(subject) for subject in state.subjects or ())
        return {known for known in found if known is not None}

    # Bodies.

    async def keep_body(self, run: str, body: bytes) -> int:
        """Keep a large body beside its call; how many pieces it has.

        Raises:
            RunsUnavailable: JetStream does not answer.
            Overloaded: as much is kept as may.
        """
        pieces = range(0, len(body), calls.PIECE_BYTES)
        for number, at in enumerate(pieces):
            piece = body[at : at + calls.PIECE_BYTES]
            await self._write(calls.body_subject(run), piece, _piece_id(run, number))
        return len(pieces)

    async def read_body(self, call: QueuedCall) -> bytes | None:
        """A call's body; None when it is not kept any more.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        if not call.pieces:
            return call.body
        # A piece that was written again after DUPLICATE_S is there twice.
        kept_there = self.store.read(BODIES, calls.body_subject(call.run))
        found = {kept.message_id: kept.data async for kept in kept_there}
        pieces = [found.get(_piece_id(call.run, number)) for number in range(call.pieces)]
        return None if None in pieces else b"".join(piece for piece in pieces if piece is not None)

    async def drop_body(self, run: str) -> None:
        """Delete what is kept of a body.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("delete a call's body"):
            await self._js.purge_stream(BODIES, subject=calls.body_subject(run))

    async def list_bodies(self) -> list[str]:
        """The calls whose bodies are kept here.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("list bodies"):
            state = (await self._js.stream_info(BODIES, subjects_filter=calls.BODY_SUBJECTS)).state
        return [subject.rpartition(".")[2] for subject in state.subjects or ()]

    async def body_written_at(self, run: str) -> float:
        """When the last of a body was written, seconds since 1970; 0: there is none.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("find a body"):
            try:
                found = await self._js.get_last_msg(BODIES, calls.body_subject(run))
            except nats.js.errors.NotFoundError:
                return 0.0
        return found.time.timestamp() if found.time is not None else 0.0

    async def is_waiting(self, run: str) -> bool:
        """Whether a call is in its queue.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        wanted = calls.call_subject("*", "*.*", run)
        async with asking("find a call"):
            state = (await self._js.stream_info(QUEUE, subjects_filter=wanted)).state
        return bool(state.subjects)

    # Dead letters.

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter, acknowledged; its call's body apart, so that many can be listed.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        call = letter.call
        if call is not None and call.body:
            with contextlib.suppress(Overloaded):  # there is no room for it but here
                pieces = await self.keep_body(letter.run, call.body)
                letter = replace(letter, call=replace(call, body=b"", pieces=pieces))
        await self._write(calls.dead_subject(letter.kind, letter.run), calls.encode(letter), "")

    async def list_dead(self, run: str = "*", *, limit: int | None = None) -> list[DeadLetter]:
        """The dead letters, the oldest first; only a run's when it is given, only so many with a limit.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        found: list[DeadLetter] = []
        async for kept in self.store.read(DEAD, calls.dead_subject("*", run)):
            letter = calls.decode(kept.data, DeadLetter)
            if letter is not None:
                found.append(letter)
            if limit is not None and len(found) >= limit:
                break
        return found

    async def count_dead(self) -> int:
        """How many dead letters there are.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("count dead letters"):
            return (await self._js.stream_info(DEAD)).state.messages

    async def has_dead(self, run: str) -> bool:
        """Whether a call, or the delivery of its result, was given up.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        return bool(await self.list_dead(run, limit=1))

    async def unbury(self, letter: DeadLetter) -> None:
        """Forget a dead letter; what is kept of its call's body stays.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("forget a dead letter"):
            await self._js.purge_stream(DEAD, subject=calls.dead_subject(letter.kind, letter.run))

    # Writing.

    async def _write(self, subject: str, payload: bytes, message_id: str) -> None:
        headers = {"Nats-Msg-Id": message_id} if message_id else None
        for tries_left in range(WRITE_TRIES - 1, -1, -1):
            try:
                async with asking("keep a call"):
                    await self._js.publish(subject, payload, headers=headers)
            except RunsUnavailable as failed:
                cause = failed.__cause__
                if isinstance(cause, nats.js.errors.APIError):
                    if any(words in str(cause.description) for words in _FULL):
                        raise Overloaded(
                            "as many asynchronous calls wait as may (async_max_bytes)",
                            hint="Ask again later; tailrace queue list shows what waits.",
                        ) from failed
                    raise
                if not tries_left:
                    raise
                await asyncio.sleep(_AGAIN_S)
            else:
                return


def _piece_id(run: str, number: int) -> str:
    return f"{run}-body-{number}"


_AGAIN_S = 0.1
