"""What is recorded of calls that come, answer or end in unusual ways."""

from __future__ import annotations

import asyncio
import signal
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.edge.call_id import new_call_id
from tailrace.provider.memory import MemoryCall, MemoryReply
from tailrace.runs import keeper
from tailrace.runs.keeper import LINGER_S
from tailrace.runs.log import Log
from tailrace.runs.peers import LEASE_S
from tailrace.runs.record import Record, encode_record
from tailrace.runs.store import record_subject
from tests.kit.loops import run
from tests.kit.runs import NATIVE, Client, NatsServer, Talker, post

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS with its usual limits."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


def _is_over(record: dict[str, Any]) -> bool:
    return bool(record["ended_at"])


@pytest.mark.parametrize("kind", ["tiny lines", "one long event"])
def test_no_answer_keeps_others_from_being_recorded(
    nats_url: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Pieces of one byte, 600,000 at once, and an event of 1.1 MB behind a short one: both are kept."""

    async def tiny() -> AsyncIterator[bytes]:
        yield b"\n" * 600_000

    async def long() -> AsyncIterator[bytes]:
        yield b"data: short\n\n"
        await asyncio.sleep(0.3)
        yield b"data: %b" % (b"x" * 1_000_000)
        await asyncio.sleep(0.3)
        yield b"%b\n\n" % (b"x" * 100_000)
        await asyncio.sleep(0.3)

    async def handler(_: MemoryCall) -> MemoryReply:
        if kind == "tiny lines":
            return MemoryReply(headers={"Content-Type": "application/x-ndjson"}, body=tiny())
        return MemoryReply(headers=NATIVE, body=long())

    async def main() -> None:
        async with post(nats_url, handler) as a, post(nats_url, handler) as b, a.http() as http:
            name = (await http.post("/function/fn")).headers["x-call-id"]
            record = await b.wait_record(name, _is_over)
            async with Client(b.port, f"/run/{name}/stream?format=raw") as later:
                seen = await later.read_all()

            assert ("done", "", False) == (record["state"], record["unrecorded"], record["truncated"])
            assert record["bytes"] == len(seen)
            assert "not recorded" not in caplog.text

    run(main())


def test_a_run_whose_client_left_behind_goes_on_beyond_its_record(nats_url: str) -> None:
    """The client took nothing and left; past the 4 MiB that are recorded nobody is left to wait for."""
    left = asyncio.Event()

    async def talk() -> AsyncIterator[bytes]:
        for number in range(80):
            yield b"x" * 65536
            if number == 40:
                await left.wait()

    async def handler(_: MemoryCall) -> MemoryReply:
        return MemoryReply(headers={"Content-Type": "text/plain"}, body=talk())

    async def main() -> None:
        annotations = {"com.tailrace.on-disconnect": "continue"}
        async with post(nats_url, handler, annotations=annotations) as a:
            async with Client(a.port, "/function/fn") as client:
                await client.read_head()
                client.pause()
                await a.wait_record(client.run, lambda record: record["bytes"] >= 41 * 65536)
            left.set()
            record = await a.wait_record(client.run, _is_over)

            assert ("done", 80 * 65536, True) == (record["state"], record["bytes"], record["truncated"])

    run(main())


def test_a_body_that_comes_slowly_hides_no_run(nats_url: str) -> None:
    """Whose key waits for the body past the time of an early head: the run is recorded, the head late."""

    async def main() -> None:
        talker = Talker(5)
        async with post(nats_url, talker, flags={"early_head_s": 0.1}) as a:
            headers = {"Accept": "text/event-stream", "Idempotency-Key": "slow", "Content-Length": "2"}
            async with Client(a.port, "/function/fn", method="POST", body=b"a", headers=headers) as client:
                await asyncio.sleep(0.5)
                client.write(b"b")
                seen = await client.read_all()
            record = await a.wait_record(client.run, _is_over)

            assert talker.whole(client.run) == seen
            assert ("done", 6) == (record["state"], record["events"])

    run(main())


def test_a_function_that_is_slow_after_a_slow_body_is_waited_for(nats_url: str) -> None:
    """The early head comes as soon as it is known which run it is."""
    gate = asyncio.Event()

    async def handler(_: MemoryCall) -> MemoryReply:
        await gate.wait()
        return MemoryReply(headers=NATIVE, body=b"data: 1\n\n")

    async def main() -> None:
        async with post(nats_url, handler, flags={"early_head_s": 0.1}) as a:
            headers = {"Accept": "text/event-stream", "Idempotency-Key": "both", "Content-Length": "2"}
            async with Client(a.port, "/function/fn", method="POST", body=b"a", headers=headers) as client:
                await asyncio.sleep(0.3)
                client.write(b"b")
                await client.read_head()
                gate.set()
                seen = await client.read_all()
            record = await a.wait_record(client.run, _is_over)

            assert b"id: %b-1\ndata: 1\n\n" % client.run.encode() == seen
            assert 1 == record["events"]

    run(main())


def test_a_viewer_that_leaves_before_the_answer_is_noticed(nats_url: str) -> None:
    """It keeps no run alive that nobody waits for, and nothing of it stays."""
    began, stopped = asyncio.Event(), asyncio.Event()

    async def handler(_: MemoryCall) -> MemoryReply:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    async def main() -> None:
        here = {"com.tailrace.on-disconnect": "cancel"}
        async with post(nats_url, handler, annotations=here) as a, a.http() as http:
            async with Client(a.port, "/function/fn", method="POST"):
                await began.wait()
                while not (found := (await http.get("/runs?state=starting")).json()["runs"]):
                    await asyncio.sleep(0.01)
                name = found[0]["id"]
                async with Client(a.port, f"/run/{name}/stream"):
                    await _until(lambda: a.runs.numbers.viewers == 1)
            async with asyncio.timeout(2):
                await stopped.wait()
            record = await a.wait_record(name, _is_over)
            await _until(lambda: a.runs.numbers.viewers == 0)

            assert ("cancelled", "client_gone") == (record["state"], record["end_reason"])

    run(main())


async def _until(is_so: Callable[[], bool], *, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not is_so():
            await asyncio.sleep(0.01)


def test_who_waits_no_more_for_a_run_leaves_nothing() -> None:
    """A viewer that goes while nothing happens is forgotten then, not with the next piece."""

    async def main() -> None:
        log = Log()
        waiting = [asyncio.ensure_future(log.wait_change(None)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

        assert [] == log._waiters

    run(main())


@pytest.mark.parametrize("ways", [("a",), ("a", "b"), ("a", "left")])
def test_a_run_that_is_over_is_soon_held_no_more(nats_url: str, ways: tuple[str, ...]) -> None:
    """However it was watched: here to its end, on another gateway too, or by nobody after its client left."""

    async def main() -> None:
        talker = Talker(50, gap_s=0.02, padding=1000)
        async with post(nats_url, talker) as a, post(nats_url, talker) as b:
            async with Client(a.port, "/function/fn", method="POST") as client:
                await client.read_until(b"data: 3.")
                if "left" not in ways:
                    there = Client(b.port if "b" in ways else a.port, f"/run/{client.run}/stream")
                    async with there as viewer:
                        await asyncio.gather(client.read_all(), viewer.read_all())
            await a.wait_record(client.run, _is_over)
            await _until(lambda: not a.runs.held_bytes, limit_s=LINGER_S + LEASE_S + 3)

            assert "done" == (await a.record(client.run))["state"]

    run(main())


def test_runs_that_cannot_be_written_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NATS their records wait for it, so many; those beyond are forgotten, the oldest first."""
    monkeypatch.setattr(keeper, "LATE_LIMIT", 20)

    async def main() -> None:
        with NatsServer(tmp_path) as server:
            async with post(server.url, Talker(1)) as a, a.http() as http:
                server.kill()
                await _until(lambda: not a.client.is_connected)
                names = [(await http.post("/function/fn")).headers["x-call-id"] for _ in range(50)]
                await _until(lambda: len(a.runs._live) <= 20)

                assert names[-20:] == list(a.runs._live)
                server.start()
                await _until(lambda: a.client.is_connected)

    run(main())


def test_a_listing_of_one_function_leaves_no_run_out(tmp_path: Path) -> None:
    """Where most of what is newer is another's: pages end in the middle of what was read at once."""

    async def main() -> None:
        with NatsServer(tmp_path) as server:
            async with post(server.url, Talker(1)) as a, a.http() as http:
                wanted = []
                for number in range(300):
                    is_ours = number < 44 or number % 12 == 0
                    function = "ours.openfaas-fn" if is_ours else "fn.openfaas-fn"
                    record = Record(new_call_id().decode(), function, "done", 1.0, ended_at=2.0)
                    wanted += [record.id] if is_ours else []
                    await a.runs.store.publish(record_subject(record.id), encode_record(record))
                found, cursor = list[str](), "0"
                while cursor:
                    query = {"function": "ours", "limit": "50", "cursor": cursor}
                    page = (await http.get("/runs", params=query)).json()
                    found += [run["id"] for run in page["runs"]]
                    cursor = page["cursor"]

                assert wanted[::-1] == found

    run(main())


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_key_that_could_not_be_held_can_be_used_again(tmp_path: Path, how: str) -> None:
    """NATS was away, or took the key too late: 503, and the same request starts a run once NATS answers."""

    async def main() -> None:
        talker, key = Talker(1), {"Idempotency-Key": "again"}
        with NatsServer(tmp_path) as server:
            async with post(server.url, talker) as a, a.http() as http:
                assert server.process is not None
                if how == "killed":
                    server.kill()
                    await _until(lambda: not a.client.is_connected)
                else:
                    server.process.send_signal(signal.SIGSTOP)
                refused = await http.post("/function/fn", headers=key)
                if how == "killed":
                    server.start()
                else:
                    server.process.send_signal(signal.SIGCONT)
                async with asyncio.timeout(20):
                    while (again := await http.post("/function/fn", headers=key)).status_code != 200:
                        await asyncio.sleep(0.1)

                assert (503, 200, 1) == (refused.status_code, again.status_code, talker.starts)

    run(main())


def test_tiny_pieces_count_as_the_memory_that_they_take() -> None:
    """What `buffer_limit` bounds: lines of three bytes take fifteen times as much."""
    log = Log()
    tracemalloc.start()
    for number in range(100_000):
        log.add(b"%02d\n" % (number % 100))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 300_000 == log.size
    assert 0.8 * taken < log.held_bytes < 1.2 * taken
