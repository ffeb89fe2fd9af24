"""Where runs are kept in JetStream: a stream of all runs' events with a subject per run, and one of records.

Reading needs no consumer: batches are asked for directly by subject and number, which any server with a
copy answers, so nothing is left behind by a reader that dies.

Source: NATS ADR-8 (last per subject), ADR-31 (direct get in batches; nats-server 2.11 and newer).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from tailrace.errors import RunsUnavailable
from tailrace.runs.asking import asking, reading
from tailrace.runs.claims import Claim, decode_claim, encode_claim
from tailrace.runs.record import Record, decode_record, encode_record

EVENTS = "TAILRACE_RUNS"
RECORDS = "TAILRACE_RECORDS"
_EVENT_SUBJECT = "tailrace.runs."
_RECORD_SUBJECT = "tailrace.records.run."
_CLAIM_SUBJECT = "tailrace.records.key."
# How long one answer of JetStream is waited for.
ASK_S = 2.0
# Messages asked for at once, and their bytes.
_BATCH = 256
_BATCH_BYTES = 2 * 1024 * 1024
# Places of the records' stream that one listing looks at, at most.
_LOOKED_AT = 20_000
# A message is there already; or, in a cluster, is about to be.
_WRONG_SEQUENCE = (10071, 10164)
_CLAIM_AGAIN_S = 0.02
# A claim of which nobody knows whether it was kept is looked for so often, so many such claims at once.
_UNCLAIM_TRIES, _UNCLAIM_AGAIN_S, _UNCLAIM_LIMIT = 30, 1.0, 1000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept at most, whatever the janitor does. Copies: of each message, in a cluster."""

    max_age_s: float
    max_bytes: int
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """One message: its place in the stream, its subject, what it holds, the id that its writer gave it."""

    place: int
    subject: str
    data: bytes
    message_id: str = ""


def event_subject(run: str) -> str:
    """Where a run's events are published."""
    return _EVENT_SUBJECT + run


def record_subject(run: str) -> str:
    """Where a run's record is published."""
    return _RECORD_SUBJECT + run


def stream_of(subject: str) -> str:
    """The stream that keeps what is published there."""
    return EVENTS if subject.startswith(_EVENT_SUBJECT) else RECORDS


class Store:
    """Reads and writes the two streams on one connection, which belongs to somebody else."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._js = client.jetstream(timeout=ASK_S)
        self._unclaiming = 0

    async def prepare(self, bounds: Bounds) -> None:
        """Make the streams, or bring them to these bounds.

        Raises:
            RunsUnavailable: JetStream does not answer, or refuses.
        """
        events = StreamConfig(
            name=EVENTS, subjects=[_EVENT_SUBJECT + "*"], storage=StorageType.FILE, allow_direct=True,
            discard=DiscardPolicy.OLD, max_bytes=bounds.max_bytes, max_age=bounds.max_age_s,
            num_replicas=bounds.copies,
        )  # fmt: skip
        records = StreamConfig(
            name=RECORDS, subjects=[_RECORD_SUBJECT + "*", _CLAIM_SUBJECT + "*"], storage=StorageType.FILE,
            allow_direct=True, discard=DiscardPolicy.OLD, max_msgs_per_subject=1, max_age=bounds.max_age_s,
            num_replicas=bounds.copies,
        )  # fmt: skip
        for config in (events, records):
            await self.keep_stream(config)

    async def keep_stream(self, config: StreamConfig) -> None:
        """Make a stream, or bring it to this configuration.

        Raises:
            RunsUnavailable: JetStream does not answer, or refuses.
        """
        async with asking("make its streams"):
            try:
                await self._js.add_stream(config)
            except nats.js.errors.BadRequestError:  # there already, with other bounds
                await self._js.update_stream(config)

    # Events.

    def read_events(self, run: str, from_place: int = 1) -> AsyncIterator[Kept]:
        """The messages of a run from this place of the stream on, as far as there are now.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        return self.read(EVENTS, event_subject(run), from_place)

    async def read(self, stream: str, subject: str, from_place: int = 1) -> AsyncIterator[Kept]:
        """The messages of a subject from this place of its stream on, as far as there are now.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        place = from_place
        while True:
            batch, is_all = await self._batch(stream, subject, place)
            for kept in batch:
                yield kept
            if is_all:
                return
            place = batch[-1].place + 1

    async def purge_events(self, run: str, to_place: int = 0) -> None:
        """Delete what is recorded of a run, up to this place; 0: all of it."""
        async with asking("delete a run's events"):
            await self._js.purge_stream(
                EVENTS, seq=to_place + 1 if to_place else None, subject=event_subject(run)
            )

    async def last_place(self, subject: str) -> int:
        """Where a subject's last message is, as the stream's leader knows it; 0: there is none.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("find a message"):
            try:
                return (await self._js.get_last_msg(stream_of(subject), subject)).seq or 0
            except nats.js.errors.NotFoundError:
                return 0

    # Records.

    async def find_record(self, run: str) -> Record | None:
        """A run's record as its gateway wrote it last; None when there is none.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        data = await self._last(record_subject(run))
        return decode_record(data) if data is not None else None

    async def list_records(
        self, before: int | None, limit: int
    ) -> tuple[list[tuple[int, Record]], int | None]:
        """Records with their places, the one that changed last first, from before a place on.

        Args:
            before: None: from the newest on.
        Returns:
            Also the place before which there may be more; None: there are none. It moves on where nothing was
            found too.
        """
        async with asking("list runs"):
            state = (await self._js.stream_info(RECORDS)).state
        high = min(state.last_seq, (before or state.last_seq + 1) - 1)
        found: list[tuple[int, Record]] = []
        lowest = max(state.first_seq, high - _LOOKED_AT + 1)
        while high >= lowest and len(found) < limit:
            low = max(lowest, high - _BATCH + 1)
            batch, _ = await self._batch(RECORDS, _RECORD_SUBJECT + "*", low)
            for kept in reversed([kept for kept in batch if kept.place <= high]):
                record = decode_record(kept.data)
                if record is not None:
                    found.append((kept.place, record))
            high = low - 1
        return found, high + 1 if high >= state.first_seq else None

    async def every_record(self) -> AsyncIterator[tuple[int, Record]]:
        """All records with their places, the one that was changed longest ago first."""
        place, is_all = 1, False
        while not is_all:
            batch, is_all = await self._batch(RECORDS, _RECORD_SUBJECT + "*", place)
            for kept in batch:
                record = decode_record(kept.data)
                if record is not None:
                    yield kept.place, record
                place = kept.place + 1

    # Claims.

    async def claim(self, name: str, claim: Claim) -> Claim:
        """Take an idempotency key; the claim that holds it: this one, or that of who came first.

        Raises:
            RunsUnavailable: JetStream does not answer; whether the key is taken is not known then: `unclaim`.
        """
        if not self.client.is_connected:  # what is written now would be sent, and taken, when it is again
            raise RunsUnavailable("JetStream did not keep an idempotency key: it is not reachable")
        async with asking("keep an idempotency key"), asyncio.timeout(ASK_S):
            while True:
                held = await self._try_claim(name, claim)
                if held is not None:
                    return held
                await asyncio.sleep(_CLAIM_AGAIN_S)

    async def _try_claim(self, name: str, claim: Claim) -> Claim | None:
        """Who holds the key; None while that is being decided."""
        subject, headers = _CLAIM_SUBJECT + name, {"Nats-Expected-Last-Subject-Sequence": "0"}
        try:
            await self._js.publish(subject, encode_claim(claim), stream=RECORDS, headers=headers)
        except nats.js.errors.APIError as refused:
            if refused.err_code not in _WRONG_SEQUENCE:
                raise
        else:
            return claim
        try:
            kept = await self._js.get_last_msg(RECORDS, subject)
        except nats.js.errors.NotFoundError:
            return None
        # What is no claim was written by somebody else; nobody may start anything on it.
        return decode_claim(kept.data or b"") or Claim("", "")

    async def unclaim(self, name: str, run: str) -> None:
        """Take back what `claim` may have taken, for a run that was not begun; for a bounded time."""
        if self._unclaiming >= _UNCLAIM_LIMIT:
            return
        self._unclaiming += 1
        try:
            for _ in range(_UNCLAIM_TRIES):
                await asyncio.sleep(_UNCLAIM_AGAIN_S)
                with contextlib.suppress(RunsUnavailable):
                    await self.release_claim(name, run)
                    return
        finally:
            self._unclaiming -= 1

    async def release_claim(self, name: str, run: str) -> None:
        """Let a key be used anew that this run holds; what another has claimed meanwhile stays.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        subject = _CLAIM_SUBJECT + name
        async with asking("forget an idempotency key"):
            try:
                kept = await self._js.get_last_msg(RECORDS, subject)
            except nats.js.errors.NotFoundError:
                return
            held = decode_claim(kept.data or b"")
            if held is not None and held.run == run:
                await self._js.purge_stream(RECORDS, seq=(kept.seq or 0) + 1, subject=subject)

    # Single messages, and the bounds.

    async def create_record(self, record: Record) -> bool:
        """Write a run's first record, acknowledged; False when it has one already.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        return await self.replace_record(record, 0)

    async def replace_record(self, record: Record, place: int) -> bool:
        """Write a run's record, acknowledged, where the last one is at this place; False when it is not.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(place)}
        async with asking("write a run's record"):
            try:
                await self._js.publish(
                    record_subject(record.id), encode_record(record), stream=RECORDS, headers=headers
                )
            except nats.js.errors.APIError as refused:
                if refused.err_code not in _WRONG_SEQUENCE:
                    raise
                return False
        return True

    async def publish(self, subject: str, payload: bytes) -> None:
        """Write one message, acknowledged.

        Raises:
            RunsUnavailable: JetStream does not answer.
        """
        async with asking("write"):
            await self._js.publish(subject, payload)

    async def fullness(self) -> dict[str, float]:
        """How near the events are to the bounds that delete them unasked: of 1, by the bound's setting."""
        async with asking("tell its state"):
            info = await self._js.stream_info(EVENTS)
            config, state = info.config, info.state
            oldest = await self._js.get_msg(EVENTS, state.first_seq) if state.messages else None
        found = {"runs_max_age_s": 0.0, "runs_max_bytes": 0.0}
        if config.max_bytes and config.max_bytes > 0:
            found["runs_max_bytes"] = state.bytes / config.max_bytes
        if config.max_age and oldest is not None and oldest.time is not None:
            found["runs_max_age_s"] = (time.time() - oldest.time.timestamp()) / config.max_age
        return found

    # Reading.

    async def _last(self, subject: str) -> bytes | None:
        async def ask() -> bytes | None:
            try:
                return (await self._js.get_last_msg(RECORDS, subject)).data or b""
            except nats.js.errors.NotFoundError:
                return None

        return await reading("find a run", ask)

    async def _batch(self, stream: str, subject: str, place: int) -> tuple[list[Kept], bool]:
        """Up to a batch of a subject's messages from a place on; whether that is all there is now."""
        wish = {"seq": place, "next_by_subj": subject, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
        question = f"$JS.API.DIRECT.GET.{stream}", json.dumps(wish).encode()

        async def ask() -> tuple[list[Kept], bool]:
            inbox = self.client.new_inbox()
            answers = await self.client.subscribe(inbox)
            try:
                await self.client.publish(*question, reply=inbox)
                return await _read_batch(answers)
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await answers.unsubscribe()

        return await reading("read", ask)


async def _read_batch(answers: Subscription) -> tuple[list[Kept], bool]:
    found: list[Kept] = []
    while True:
        message = await answers.next_msg(timeout=ASK_S)
        headers = message.headers or {}
        status = headers.get("Status")
        if status == "404" or (status == "204" and not found):
            return found, True
        if status == "204":
            return found, headers.get("Nats-Num-Pending", "0") == "0"
        if status is not None:
            raise nats.errors.Error(f"{status} {headers.get('Description', '')}")
        place, message_id = int(headers["Nats-Sequence"]), headers.get("Nats-Msg-Id", "")
        found.append(Kept(place, headers["Nats-Subject"], message.data, message_id))
