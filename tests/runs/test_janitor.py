"""Two janitors of one NATS, one of which is late: it has read records that are not the newest any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import nats
import pytest

from tailrace.runs.claims import Claim
from tailrace.runs.janitor import Janitor
from tailrace.runs.journal import Journal
from tailrace.runs.pieces import pack_piece
from tailrace.runs.record import Record
from tailrace.runs.store import Store, event_subject, stream_of
from tailrace.runs.tries import Tries
from tests.kit.runs import BOUNDS, NatsServer

pytestmark = pytest.mark.slow
RUN, KEY = "r" * 26, "k" * 64
FAILED = Record(
    RUN, "fn.openfaas-fn", "failed", 1.0, ended_at=2.0, end_reason="error_function", is_async=True, key=KEY
)


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One NATS for all."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


class Late(Store):
    """A store whose listing of records is as it was a moment ago."""

    seen: tuple[tuple[int, Record], ...] = ()

    async def every_record(self) -> AsyncIterator[tuple[int, Record]]:
        for found in self.seen:
            yield found


async def _late(url: str, record: Record, meanwhile: Callable[[Store], Awaitable[None]]) -> tuple[int, _Kept]:
    """Have a janitor sweep that has read this record, and then something else happened; what it closed."""
    client = await nats.connect(url)
    try:
        store = Late(client)
        await store.prepare(BOUNDS)
        await store.purge_events(RUN)
        await client.jetstream().purge_stream("TAILRACE_RECORDS")
        await store.claim(KEY, Claim(RUN, "digest"))
        await store.create_record(record)
        await store.publish(event_subject(RUN), pack_piece(1, b"old"))
        store.seen = tuple([found async for found in Store.every_record(store)])
        await meanwhile(store)
        closed = await Janitor(store, lambda: (0.0, 0.0), lambda _: False).sweep()
        return closed, await _Kept.read(store)
    finally:
        await client.close()


class _Kept:
    """What is there of the run afterwards."""

    record: Record | None
    events: list[bytes]
    holder: str

    @staticmethod
    async def read(store: Store) -> _Kept:
        kept = _Kept()
        kept.record = await store.find_record(RUN)
        kept.events = [found.data[-3:] async for found in store.read_events(RUN)]
        kept.holder = (await store.claim(KEY, Claim("nobody", ""))).run
        return kept


def test_what_has_expired_is_deleted_and_its_key_is_free(nats_url: str) -> None:
    """The record stays, as a mark."""

    async def main() -> None:
        async def nothing(_: Store) -> None: ...

        _, kept = await _late(nats_url, FAILED, nothing)

        assert kept.record is not None
        assert kept.record.expired_at is not None
        assert ([], "nobody") == (kept.events, kept.holder)

    asyncio.run(main())


def test_a_late_janitor_leaves_a_run_that_has_begun_again(nats_url: str) -> None:
    """A dead letter that is tried again keeps its new record and events, and its key."""

    async def main() -> None:
        async def retry(store: Store) -> None:
            await Tries(store, Journal(store.client, stream_of)).reopen(RUN, FAILED.function, 1.0)
            await store.publish(event_subject(RUN), pack_piece(1, b"new"))

        _, kept = await _late(nats_url, FAILED, retry)

        assert kept.record is not None
        assert ("queued", None) == (kept.record.state, kept.record.expired_at)
        assert ([b"new"], RUN) == (kept.events, kept.holder)

    asyncio.run(main())


def test_a_late_janitor_releases_no_key_that_was_claimed_anew(nats_url: str) -> None:
    """Another one was faster, and somebody has used the key since."""

    async def main() -> None:
        async def expire(store: Store) -> None:
            await store.release_claim(KEY, RUN)
            await store.claim(KEY, Claim("another", "digest"))

        _, kept = await _late(nats_url, FAILED, expire)

        assert "another" == kept.holder

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [True, False])
def test_a_late_janitor_closes_no_run_that_somebody_has_written(nats_url: str, is_async: bool) -> None:
    """The record of who runs it now stays, and nobody is told an end."""
    lost = replace(FAILED, state="streaming", ended_at=None, gateway="dead", is_async=is_async)

    async def main() -> None:
        async def begin(store: Store) -> None:
            found = await store.last_place(f"tailrace.records.run.{RUN}")
            assert await store.replace_record(replace(lost, gateway="alive", started_at=time.time()), found)

        closed, kept = await _late(nats_url, lost, begin)

        assert 0 == closed
        assert kept.record is not None
        assert ("streaming", "alive") == (kept.record.state, kept.record.gateway)
        assert [b"old"] == kept.events

    asyncio.run(main())
