"""Asynchronous calls through a real gateway and NATS: taken in, made, watched, tried again, cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import uvloop

from tailrace.control import async_calls
from tailrace.edge.call_id import new_call_id
from tailrace.edge.calllog import CallLog
from tailrace.functions.table import Table
from tailrace.provider.memory import MemoryCall, MemoryReply
from tailrace.queue import streams, worker
from tailrace.queue.caller import EdgeCaller
from tailrace.queue.calls import PIECE_BYTES, QueuedCall, body_subject, call_subject, encode
from tailrace.queue.handling import Handling
from tailrace.queue.intake import Intake
from tailrace.queue.leftovers import drop_idle, sweep
from tailrace.queue.served import Served, TableFunctions
from tailrace.queue.streams import BODIES
from tailrace.retries import Retries
from tests.kit.queue import QUICK, ask, is_over, wait_dead
from tests.kit.runs import END, NATIVE, Client, Talker, post

pytestmark = pytest.mark.slow


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it as a gateway's loop would."""
    uvloop.run(main)


def test_a_call_is_taken_in_made_and_can_be_watched(nats_url: str) -> None:
    """202 with its id and where it is; the function gets what was sent; its answer is the run's."""

    async def main() -> None:
        talker = Talker(3)
        async with post(nats_url, talker) as a:
            reply = await ask(
                a, "fn/some/path%20x?q=1", content=b"hello", headers={"X-Thing": "yes", "X-Call-Id": "mine"}
            )
            name = reply.headers["x-call-id"]
            record = await a.wait_record(name, is_over)
            async with Client(a.port, reply.headers["location"] + "/stream") as viewer:
                seen = await viewer.read_all()

            assert (202, b"") == (reply.status_code, reply.content)
            assert reply.headers["x-start-time"].isdigit()
            assert f"/run/{name}" == reply.headers["location"]
            call = talker.calls[0]
            assert ("POST", "/some/path%20x?q=1", b"hello") == (call.method, call.target, call.body)
            assert ("yes", name, "mine") == (
                call.headers["x-thing"],
                call.headers["x-call-id"],
                call.headers["x-client-call-id"],
            )
            assert "accept-encoding" in call.headers  # the client's own
            assert (True, "done", 1, "fn.openfaas-fn") == (
                record["async"], record["state"], record["attempts"], record["function"],
            )  # fmt: skip
            assert talker.whole(name) == seen
            assert 1 == a.queue.queued

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "words"),
    [
        ("POST", "/async-function/nobody", {}, b"", 404, "function 'nobody' not found"),
        ("GET", "/async-function/fn", {}, b"", 405, "Method Not Allowed"),
        ("POST", "/async-function/fn", {}, b"x" * 2000, 413, "async_body_limit"),
        ("POST", "/async-function/fn", {"X-Call-Id": "a b"}, b"", 400, "X-Call-Id"),
        ("POST", "/async-function/fn", {"X-Timeout": "soon"}, b"", 400, "X-Timeout"),
        ("POST", "/async-function/fn", {"X-Tailrace-On-Disconnect": "maybe"}, b"", 400, "On-Disconnect"),
        ("POST", "/async-function/fn", {"X-Callback-Url": "ftp://a/b"}, b"", 400, "X-Callback-Url"),
        ("POST", "/async-function/fn", {"X-Callback-Url": "http://127.0.0.1/cb"}, b"", 403, "public"),
        ("POST", "/async-function/fn", {"X-Callback-Url": "http://169.254.169.254/"}, b"", 403, "public"),
        ("DELETE", "/async-function/fn", {}, b"", 404, "no call's id"),
        ("DELETE", "/async-function/" + "a" * 26, {}, b"", 404, "there is no run"),
    ],
)
def test_what_cannot_be_taken_in_is_refused_at_once(
    nats_url: str, method: str, path: str, headers: dict[str, str], body: bytes, status: int, words: str
) -> None:
    """With a reason; nothing is queued and nothing runs."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, flags={"async_body_limit": 1024}) as a, a.http() as http:
            reply = await http.request(method, path, headers=headers, content=body)

            assert (status, True) == (reply.status_code, words in reply.text), reply.text
            assert (0, 0) == (a.queue.queued, talker.starts)

    run(main())


@pytest.mark.parametrize("kind", ["many", "long"])
def test_a_head_that_is_taken_in_is_not_refused_later(nats_url: str, kind: str) -> None:
    """The worker's call has a few headers more than what came: what those make too much gets no 202."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a:
            heads = [{f"X-{at}": "1" for at in range(count)} for count in range(188, 195)]
            if kind == "long":
                heads = [{"X-Long": "x" * size} for size in range(64_000, 65_400, 100)]
            replies = [await ask(a, headers=head) for head in heads]
            taken = [reply.headers["x-call-id"] for reply in replies if reply.status_code == 202]
            states = [(await a.wait_record(name, is_over))["state"] for name in taken]

            assert ["done"] * len(taken) == states
            assert {202, 413} == {reply.status_code for reply in replies}

    run(main())


def test_a_call_of_the_queue_is_its_callers(nats_url: str) -> None:
    """The function and the call log are told the caller's address; the gateway's own socket has none."""

    async def main() -> None:
        talker, lines = Talker(1), bytearray()

        def take(data: bytes) -> bool:
            lines.extend(data)
            return True

        async with post(nats_url, talker) as a:
            a.edge.log = CallLog("text", take, a.edge.numbers, a.edge.loop)
            reply = await ask(a, headers={"X-Forwarded-For": "9.9.9.9"})
            await a.wait_record(reply.headers["x-call-id"], is_over)
            async with asyncio.timeout(10):
                while b"function=fn" not in lines:
                    await asyncio.sleep(0.01)

            assert "127.0.0.1" == talker.calls[0].headers["x-forwarded-for"]
            (line,) = (line for line in lines.splitlines() if b"function=fn" in line)
            assert b" client=127.0.0.1" in line

    run(main())


def test_a_result_goes_to_one_address(nats_url: str) -> None:
    """Two headers that name one each are refused."""

    async def main() -> None:
        async with post(nats_url, Talker(1)) as a:
            reply = await ask(a, headers=[("X-Callback-Url", f"http://example.com/{n}") for n in range(2)])

            assert (400, True) == (reply.status_code, "X-Callback-Url came" in reply.text), reply.text
            assert 0 == a.queue.queued

    run(main())


def test_a_large_body_comes_through(nats_url: str) -> None:
    """One of 3 MB is kept beside its call, given to the function as it is, and then deleted."""

    async def main() -> None:
        body = bytes(range(256)) * 12_000
        talker = Talker(1)
        async with post(nats_url, talker) as a:
            name = (await ask(a, content=body)).headers["x-call-id"]
            await a.wait_record(name, is_over)
            streams = a.intake.streams
            async with asyncio.timeout(10):
                while [kept async for kept in streams.store.read(BODIES, body_subject(name))]:
                    await asyncio.sleep(0.01)

            assert body == talker.calls[0].body

    run(main())


def test_a_call_that_is_done_is_no_dead_letter_when_it_comes_again(nats_url: str) -> None:
    """Its large body is deleted, and the acknowledgement after that was lost."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a:
            name = (await ask(a, content=b"x" * 600_000)).headers["x-call-id"]
            await a.wait_record(name, is_over)
            assert a.worker is not None
            assert await a.worker.wait_idle(10)
            streams = a.intake.streams
            await streams.add_call(QueuedCall(name, "fn.openfaas-fn", "default", "", pieces=2, drive=1))
            async with asyncio.timeout(10):
                while await streams.is_waiting(name):
                    await asyncio.sleep(0.01)

            assert [] == await streams.list_dead(name)
            assert ("done", 1) == ((await a.record(name))["state"], talker.starts)
            assert 0 == a.queue.dead

    run(main())


def test_bodies_that_come_at_once_are_bounded_together(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than there is room for is refused; what it held is free again, and the others are kept."""
    monkeypatch.setattr(async_calls, "HELD_BYTES", 1000)

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, flags={"async_body_limit": 1024}) as a, a.http() as http:
            a.intake.held_bytes = 600
            refused = await http.post("/async-function/fn", content=b"x" * 700)
            held = a.intake.held_bytes
            a.intake.held_bytes = 0
            kept = await http.post("/async-function/fn", content=b"x" * 700)
            await a.wait_record(kept.headers["x-call-id"], is_over)

            assert (503, 600) == (refused.status_code, held)
            assert (202, 0) == (kept.status_code, a.intake.held_bytes)

    run(main())


def test_a_key_keeps_a_call_once(nats_url: str) -> None:
    """The same request again: the same call; another one under the same key: 422."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a:
            key = {"Idempotency-Key": "order-7"}
            first = await ask(a, content=b"one", headers=key)
            await a.wait_record(first.headers["x-call-id"], is_over)
            again = await ask(a, content=b"one", headers=key)
            other = await ask(a, content=b"two", headers=key)
            told = await ask(a, content=b"one", headers={**key, "X-Callback-Url": "http://example.com/cb"})
            at_once = await asyncio.gather(*(ask(a, headers={"Idempotency-Key": "k"}) for _ in range(5)))
            await a.wait_record(at_once[0].headers["x-call-id"], is_over)

            assert first.headers["x-call-id"] == again.headers["x-call-id"]
            assert (202, 202, 422) == (first.status_code, again.status_code, other.status_code)
            assert 422 == told.status_code  # the call that is kept tells nobody
            assert 1 == len({reply.headers["x-call-id"] for reply in at_once})
            assert 2 == talker.starts

    run(main())


def test_a_dead_letter_is_counted_once(nats_url: str) -> None:
    """Its call comes again while its result finds no place, or its acknowledgement was lost."""

    async def handler(_: MemoryCall) -> MemoryReply:
        return MemoryReply(status=500)

    async def main() -> None:
        async with post(nats_url, handler, annotations={"com.openfaas.retry.attempts": "1"}) as a:
            name = (await ask(a)).headers["x-call-id"]
            await wait_dead(a, name)
            assert a.worker is not None
            assert await a.worker.wait_idle(10)
            await a.intake.streams.add_call(QueuedCall(name, "fn.openfaas-fn", "default", "", drive=1))
            async with asyncio.timeout(10):
                while await a.intake.streams.is_waiting(name):
                    await asyncio.sleep(0.01)

            assert 1 == a.queue.dead

    run(main())


def test_a_body_that_was_kept_twice_is_one(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever kept its beginning died, and the same call was taken in long after: 202, and it is made."""
    monkeypatch.setattr(streams, "DUPLICATE_S", 0.1)

    async def main() -> None:
        body, name = bytes(range(256)) * 5000, new_call_id().decode()
        talker = Talker(1)
        async with post(nats_url, talker) as a:
            await a.intake.streams.keep_body(name, body[:PIECE_BYTES])
            async with asyncio.timeout(10):
                while await count(a.intake.streams, name) < 2:  # until NATS has forgotten the first
                    await asyncio.sleep(0.1)
                    await a.intake.streams.keep_body(name, body[:PIECE_BYTES])
            await a.intake.accept(QueuedCall(name, "fn.openfaas-fn", "default", ""), body)
            record = await a.wait_record(name, is_over)
            assert a.worker is not None
            assert await a.worker.wait_idle(10)

            assert "done" == record["state"]
            assert [body] == [call.body for call in talker.calls]
            assert 0 == await count(a.intake.streams, name)

    run(main())


async def count(kept: streams.Streams, name: str) -> int:
    """The messages of a body."""
    return len([one async for one in kept.store.read(BODIES, body_subject(name))])


def test_bodies_that_nobody_needs_are_swept(nats_url: str) -> None:
    """Of a call that is over, and of one that was never queued; not of one that waits."""

    async def main() -> None:
        body = b"x" * 400_000
        async with post(nats_url, Talker(1), flags={"async_queues": "off"}) as a, a.http() as http:
            waits, over = [(await ask(a, content=body)).headers["x-call-id"] for _ in range(2)]
            streams = a.intake.streams
            await http.delete(f"/run/{over}")
            await streams.keep_body("z" * 26, body)
            soon = await sweep(streams, time.time())
            left = await streams.list_bodies()
            later = await sweep(streams, time.time() + 7200)

            assert (1, {waits, "z" * 26}) == (soon, set(left))
            assert (1, [waits]) == (later, await streams.list_bodies())
            await a.intake.cancel(waits)

    run(main())


def test_what_hands_out_calls_of_a_function_that_is_gone_is_deleted(nats_url: str) -> None:
    """Not while a call waits, nor where the function is there or somebody serves it; a call makes it anew."""

    async def main() -> None:
        nowhere, queue = TableFunctions(Table()), {"com.openfaas.queue": "gone"}
        async with post(nats_url, Talker(1), annotations=queue, flags={"async_queues": "off"}) as a:
            consumers = a.intake.streams.consumers

            async def drop(functions: TableFunctions = nowhere) -> int:
                return await drop_idle(consumers, functions, lambda queue: queue == "gone")

            waits = (await ask(a)).headers["x-call-id"]
            while_waiting = await drop()
            await a.intake.cancel(waits)
            while_there = await drop(TableFunctions(a.edge.table))
            while_elsewhere = await drop_idle(consumers, nowhere, lambda queue: queue == "mine")
            pull = await consumers.pull_calls("gone", "fn.openfaas-fn")
            asking = asyncio.create_task(pull.fetch(1, timeout=5))
            while not [one async for one in consumers.waiting() if (one.queue, one.pulls) == ("gone", 1)]:
                await asyncio.sleep(0.01)
            while_served = await drop()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await pull.unsubscribe()
            async with asyncio.timeout(10):
                while not (dropped := await drop()):
                    await asyncio.sleep(0.05)

            assert [0] * 4 == [while_waiting, while_there, while_elsewhere, while_served]
            assert 1 == dropped
            assert "gone" not in {one.queue async for one in consumers.waiting()}
            async with post(nats_url, Talker(1), annotations=queue) as b:
                again = (await ask(a)).headers["x-call-id"]
                assert "done" == (await b.wait_record(again, is_over))["state"]

    run(main())


def test_a_call_that_nothing_hands_out_is_found(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its consumer was deleted before its gateway wrote it, and no worker heard of it."""
    monkeypatch.setattr(worker, "SWEEP_S", 0.1)

    async def main() -> None:
        async with post(nats_url, Talker(1), flags={"async_queues": "off"}) as a:
            kept, name = a.intake.streams, "o" * 26
            call = QueuedCall(name, "fn.openfaas-fn", "default", "")
            await kept.consumers.close(call.queue, call.function)
            subject = call_subject(call.queue, call.function, name)
            await a.runs.tries.enqueue(name, call.function)
            await kept.client.jetstream().publish(subject, encode(call))
            async with post(nats_url, Talker(1)) as b:
                record = await b.wait_record(name, is_over)

            assert "done" == record["state"]

    run(main())


def test_headers_come_through_byte_for_byte(nats_url: str) -> None:
    """Repeated ones, and those that are no ASCII."""
    seen: list[MemoryCall] = []

    async def handler(call: MemoryCall) -> MemoryReply:
        seen.append(call)
        return MemoryReply(headers={"X-Back": "gr\xfc\xdfe"}, body=b"x")

    async def main() -> None:
        async with post(nats_url, handler) as a:
            name = (await ask(a, headers=[(b"X-Word", "gr\xfc\xdfe".encode("latin-1"))])).headers["x-call-id"]
            await a.wait_record(name, is_over)

            assert "gr\xfc\xdfe" == seen[0].headers["x-word"]

    run(main())


def test_a_full_queue_refuses_and_recovers(nats_url: str) -> None:
    """503 that names the setting; what was accepted is made, and then there is room again."""

    async def main() -> None:
        body, talker = b"x" * (6 << 20), Talker(1)
        flags = {"async_max_bytes": 16 << 20}
        async with post(nats_url, talker, flags={**flags, "async_queues": "off"}) as a:
            replies = [await ask(a, content=body) for _ in range(4)]
        names = [reply.headers["x-call-id"] for reply in replies if reply.status_code == 202]
        async with post(nats_url, talker, flags=flags) as b:
            for name in names:
                await b.wait_record(name, is_over)
            async with asyncio.timeout(10):
                while (again := await ask(b, content=body)).status_code != 202:
                    await asyncio.sleep(0.05)
            await b.wait_record(again.headers["x-call-id"], is_over)

            assert [202, 202, 503, 503] == [reply.status_code for reply in replies]
            assert "async_max_bytes" in replies[3].text
            assert {len(body)} == {len(call.body) for call in talker.calls}

    run(main())


def test_calls_of_a_function_that_is_removed_wait_for_it(nats_url: str) -> None:
    """They are made once it is deployed again, wherever that is; also one that was just being made."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, flags={"async_queues": "off"}) as a:
            name = (await ask(a)).headers["x-call-id"]
        async with post(nats_url, talker, annotations=QUICK) as b, b.http() as http:
            await http.request("DELETE", "/system/functions", json={"functionName": "fn"})
            assert b.worker is not None
            await b.worker._look()
        async with post(nats_url, talker, annotations=QUICK) as c:
            # What b had in hand is handed out again when its lease is over.
            record = await c.wait_record(name, is_over, limit_s=25)

            assert "done" == record["state"]

    run(main())


def test_a_worker_that_leaves_does_not_end_a_call_for_good(nats_url: str) -> None:
    """Also where the function says that nobody watching means the end: the call is made again."""
    wishes = {"com.tailrace.on-disconnect": "cancel", **QUICK}
    starts: list[str] = []

    async def handler(call: MemoryCall) -> MemoryReply:
        starts.append(call.headers["x-call-id"])
        if len(starts) == 1:
            await asyncio.sleep(60)
        return MemoryReply(body=b"x")

    async def main() -> None:
        flags = {"async_lease_s": 1}
        async with post(nats_url, handler, annotations=wishes, flags=flags) as a:
            name = (await ask(a)).headers["x-call-id"]
            await a.wait_record(name, lambda found: found["state"] == "starting")
            assert a.worker is not None
            await a.worker.aclose()
            waiting = await a.wait_record(name, lambda found: found["state"] == "queued")
        async with post(nats_url, handler, annotations=wishes, flags=flags) as b:
            record = await b.wait_record(name, is_over)

            assert "client_gone" == waiting["end_reason"]
            assert ("done", 2) == (record["state"], record["attempts"])
            assert [name, name] == starts

    run(main())


def test_a_failing_function_is_tried_again(nats_url: str) -> None:
    """A 429, a crash of its handler, a 503: each is one attempt; only the last answer is the run's."""
    script: list[int] = [429, 0, 503]

    async def handler(call: MemoryCall) -> MemoryReply:
        status = script.pop(0) if script else 200
        if not status:
            raise RuntimeError("its handler failed")
        return MemoryReply(status, {"Content-Type": "text/plain"}, b"busy" if status >= 400 else b"well")

    async def main() -> None:
        async with post(nats_url, handler, annotations=QUICK) as a, a.http() as http:
            name = (await ask(a)).headers["x-call-id"]
            record = await a.wait_record(name, is_over)
            answer = await http.get(f"/run/{name}/stream")

            assert ("done", 4, 200) == (record["state"], record["attempts"], record["status"])
            assert "well" == answer.text
            assert a.queue.redelivered >= 3

    run(main())


def test_retry_after_is_waited_for(nats_url: str) -> None:
    """A function that asks for one second is not tried again before."""
    at: list[float] = []

    async def handler(call: MemoryCall) -> MemoryReply:
        at.append(time.monotonic())
        return MemoryReply(503 if len(at) == 1 else 200, {"Retry-After": "1"} if len(at) == 1 else {}, b"x")

    async def main() -> None:
        async with post(nats_url, handler, annotations=QUICK) as a:
            name = (await ask(a)).headers["x-call-id"]
            await a.wait_record(name, is_over)

            assert 2 == len(at)
            assert at[1] - at[0] >= 0.95

    run(main())


def test_a_stream_that_broke_is_not_tried_again(nats_url: str) -> None:
    """Once a byte was produced the call is a dead letter; with the annotation it is tried again."""
    starts: list[str] = []

    async def broken() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise RuntimeError("in the middle")

    async def handler(call: MemoryCall) -> MemoryReply:
        starts.append(call.headers["x-call-id"])
        return MemoryReply(headers=NATIVE, body=broken() if len(starts) < 3 else Talker(1)._talk())

    async def main() -> None:
        async with post(nats_url, handler, annotations=QUICK) as a:
            once = (await ask(a)).headers["x-call-id"]
            failed = await a.wait_record(once, is_over)
            letters = await wait_dead(a, once)
        again_too = {"com.tailrace.retry.after-first-byte": "true", **QUICK}
        async with post(nats_url, handler, annotations=again_too) as a:
            twice = (await ask(a)).headers["x-call-id"]
            done = await a.wait_record(twice, is_over)

            assert ("failed", 1, 1) == (failed["state"], failed["attempts"], failed["events"])
            assert ["call"] == [letter.kind for letter in letters]
            assert ("done", 2) == (done["state"], done["attempts"])
            assert [once, twice, twice] == starts

    run(main())


def test_a_stream_that_broke_before_its_first_byte_is_tried_again(nats_url: str) -> None:
    """Nobody was told its head, so it is none of the run; nor is its status when the call is given up."""
    starts: list[str] = []

    async def broken() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.05)  # the head goes out alone
        raise RuntimeError("before the first byte")
        yield b""

    async def handler(call: MemoryCall) -> MemoryReply:
        starts.append(call.headers["x-call-id"])
        return MemoryReply(headers=NATIVE, body=broken())

    async def main() -> None:
        twice = {"com.openfaas.retry.attempts": "2", **QUICK}
        async with post(nats_url, handler, annotations=twice) as a:
            name = (await ask(a)).headers["x-call-id"]
            failed = await a.wait_record(name, is_over)
            async with Client(a.port, f"/run/{name}/stream") as viewer:
                await viewer.read_all()

            assert ("failed", 2, 0, None) == tuple(
                failed[key] for key in ("state", "attempts", "events", "status")
            )
            assert [name, name] == starts
            assert b"replica" in viewer.body

    run(main())


def test_a_call_that_waits_is_cancelled_and_never_runs(nats_url: str) -> None:
    """DELETE: 202; its record is cancelled at once, and a worker that comes later finds nothing."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, flags={"async_queues": "off"}) as a, a.http() as http:
            name = (await ask(a)).headers["x-call-id"]
            first = await http.delete(f"/async-function/{name}")
            record = await a.record(name)
            second = await http.delete(f"/async-function/{name}")
        async with post(nats_url, talker) as b:
            after = (await ask(b)).headers["x-call-id"]
            await b.wait_record(after, is_over)

            assert (202, 202) == (first.status_code, second.status_code)
            assert ("cancelled", "cancelled") == (record["state"], record["end_reason"])
            assert [after] == [call.headers["x-call-id"] for call in talker.calls]

    run(main())


def test_a_call_that_begins_while_it_is_cancelled_keeps_its_body(nats_url: str) -> None:
    """A worker has taken it just before: it is made or not, but its body is not lost."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, flags={"async_queues": "off"}) as a:
            name = (await ask(a, content=b"x" * 600_000)).headers["x-call-id"]
            call = QueuedCall(name, "fn.openfaas-fn", "default", "", pieces=2, size=600_000)
            caller = EdgeCaller(a.runs, a.private)
            handling = Handling(a.intake.streams, a.runs.tries, caller, lambda: a.edge.settings, a.queue)

            class Late(streams.Streams):
                async def withdraw(self, run: str) -> None:
                    await super().withdraw(run)
                    await handling.handle(call, Served(Retries()))

            late = Late(a.intake.streams.store, a.intake.streams.bounds)
            record = await Intake(late, a.runs, a.queue, a.intake.secret).cancel(name)

            assert ("done", 1) == (record.state, talker.starts)
            assert [] == await late.list_dead(name)

    run(main())


def test_a_dead_letter_that_is_cancelled_keeps_its_body(nats_url: str) -> None:
    """It is over and stays as it is: what tries it again finds all of it."""
    seen: list[bytes] = []

    async def handler(call: MemoryCall) -> MemoryReply:
        seen.append(call.body)
        return MemoryReply(status=500 if len(seen) == 1 else 200, body=b"x")

    async def main() -> None:
        body = b"x" * 600_000
        once = {"com.openfaas.retry.attempts": "1"}
        async with post(nats_url, handler, annotations=once) as a, a.http() as http:
            name = (await ask(a, content=body)).headers["x-call-id"]
            await wait_dead(a, name)
            cancelled = await http.delete(f"/async-function/{name}")
            await a.intake.retry(name)
            record = await a.wait_record(name, is_over)
            assert a.worker is not None
            assert await a.worker.wait_idle(10)

            assert (202, "done") == (cancelled.status_code, record["state"])
            assert [body, body] == seen

    run(main())


def test_a_dead_letter_that_is_tried_again_twice_is_one_try(nats_url: str) -> None:
    """Two do it at once: the second disturbs neither the call that is made again, nor one that is done."""
    starts, go = list[str](), asyncio.Event()

    async def handler(call: MemoryCall) -> MemoryReply:
        starts.append(call.headers["x-call-id"])
        return MemoryReply(status=500) if len(starts) == 1 else MemoryReply(headers=NATIVE, body=talk())

    async def talk() -> AsyncIterator[bytes]:
        yield b"data: 0\n\n"
        await go.wait()
        yield END

    async def main() -> None:
        async with post(nats_url, handler, annotations={"com.openfaas.retry.attempts": "1"}) as a:
            name = (await ask(a)).headers["x-call-id"]
            (letter,) = await wait_dead(a, name)

            async def retry() -> None:
                await a.intake.streams.bury(letter)  # as who has read it before the other took it away
                await a.intake.retry(name)

            await retry()
            async with Client(a.port, f"/run/{name}/stream") as viewer:
                await viewer.read_until(b"data: 0\n")
                await retry()
                go.set()
                await viewer.read_all()
            record = await a.wait_record(name, is_over)
            await retry()
            assert a.worker is not None
            assert await a.worker.wait_idle(10)

            assert Talker(1).whole(name) == viewer.body
            assert ("done", 1, 2) == (record["state"], record["attempts"], record["events"])
            assert record == await a.record(name)
            assert [name, name] == starts

    run(main())


def test_a_call_between_two_tries_is_cancelled(nats_url: str) -> None:
    """It is not tried again; another one, which takes longer than that wait, is made meanwhile."""
    starts: list[str] = []

    async def handler(call: MemoryCall) -> MemoryReply:
        starts.append(call.body.decode())
        if call.body == b"first":
            return MemoryReply(503, {"Retry-After": "1"}, b"later")
        await asyncio.sleep(1.5)
        return MemoryReply(body=b"x")

    async def main() -> None:
        async with post(nats_url, handler, annotations=QUICK) as a, a.http() as http:
            first = (await ask(a, content=b"first")).headers["x-call-id"]
            await a.wait_record(first, lambda found: bool(found["end_reason"]))
            cancelled = await http.delete(f"/async-function/{first}")
            second = (await ask(a, content=b"second")).headers["x-call-id"]
            await a.wait_record(second, is_over)

            assert 202 == cancelled.status_code
            assert "cancelled" == (await a.record(first))["state"]
            assert ["first", "second"] == starts
            assert [] == await a.intake.streams.list_dead(first)

    run(main())


def test_a_call_that_runs_is_cancelled(nats_url: str) -> None:
    """Its function is stopped; the record keeps what was said, and it is not tried again."""

    async def main() -> None:
        talker = Talker(1000, gap_s=0.01)
        async with post(nats_url, talker, annotations=QUICK) as a, a.http() as http:
            name = (await ask(a)).headers["x-call-id"]
            await a.wait_record(name, lambda found: found["events"] > 3)
            await http.delete(f"/async-function/{name}")
            record = await a.wait_record(name, is_over)
            async with asyncio.timeout(5):
                while a.worker is None or a.worker.in_hand or not talker.stopped:
                    await asyncio.sleep(0.01)

            assert ("cancelled", True) == (record["state"], record["events"] > 3)
            assert (1, 1) == (talker.starts, talker.stopped)
            assert [] == await a.intake.streams.list_dead(name)

    run(main())


def test_a_function_has_so_many_calls_at_once(nats_url: str) -> None:
    """As many as its replicas take, or as the setting says; the rest wait, and none is refused."""
    running, most = 0, 0

    async def handler(call: MemoryCall) -> MemoryReply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        return MemoryReply(body=b"x")

    async def main() -> None:
        wishes = {"com.tailrace.concurrency.max": "3"}
        async with post(nats_url, handler, annotations=wishes, flags={"queue_limit": 1}) as a:
            names = [(await ask(a)).headers["x-call-id"] for _ in range(30)]
            records = [await a.wait_record(name, is_over) for name in names]

            assert 3 == most
            assert {("done", 1)} == {(record["state"], record["attempts"]) for record in records}

    run(main())


def test_a_named_queue_is_served_by_who_is_told_to(nats_url: str) -> None:
    """A worker of other queues leaves it alone."""
    wishes = {"com.openfaas.queue": "slow"}

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, annotations=wishes, flags={"async_queues": "quick,other"}) as a:
            name = (await ask(a)).headers["x-call-id"]
            listing = await a.intake.listing()
            assert a.worker is not None
            await a.worker._look()
            waiting = await a.record(name)
        async with post(nats_url, talker, annotations=wishes, flags={"async_queues": "slow"}) as b:
            record = await b.wait_record(name, is_over)

            assert [("slow", "fn.openfaas-fn", 1)] == [
                (w.queue, w.function, w.pending) for w in listing.waiting if w.queue == "slow"
            ]
            assert ("queued", "done") == (waiting["state"], record["state"])

    run(main())
