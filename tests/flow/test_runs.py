"""Runs: recorded, watched, resumed, joined and stopped, with two gateways on one NATS."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.errors import RunsUnavailable
from tailrace.provider.memory import Handler, MemoryCall, MemoryReply
from tailrace.runs import feed, journal, store
from tailrace.runs.claims import Claim
from tailrace.runs.marks import Head, pack_head
from tailrace.runs.peers import LEASE_S
from tailrace.runs.pieces import pack_pieces
from tailrace.runs.record import Record, encode_record
from tailrace.runs.store import event_subject, record_subject
from tests.kit.loops import run
from tests.kit.runs import END, NATIVE, Client, NatsCluster, NatsServer, Post, Talker, Way, post

pytestmark = pytest.mark.slow
EVENT_STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One NATS for the tests that do not break it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture(scope="module", params=["one server", "three servers"])
def each_nats(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One NATS, and a cluster that keeps three copies."""
    kind = NatsServer if request.param == "one server" else NatsCluster
    with kind(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@contextlib.asynccontextmanager
async def _two(url: str, handler: Handler) -> AsyncIterator[tuple[Post, Post]]:
    async with post(url, handler) as a, post(url, handler) as b:
        yield a, b


def _is_over(record: dict[str, Any]) -> bool:
    return bool(record["ended_at"])


# Resume.


def test_fifty_cuts_leave_no_gap_and_no_duplicate(each_nats: str) -> None:
    """2,000 events, cut at 50 random points, gone on with on either gateway in turn; one start."""

    async def main() -> None:
        rng = random.Random(5)
        talker = Talker(2000, gap_s=0.001)
        async with post(each_nats, talker) as a, post(each_nats, talker) as b:
            client = Client(a.port, "/function/fn", method="POST", body=b"q")
            got, name, places = b"", "", itertools.cycle((b, a))
            for cut in range(51):
                async with client:
                    await client.read_head()
                    assert 200 == client.status
                    name = name or client.run
                    take = rng.randrange(200, 3000)
                    while (cut == 50 or len(client.body) < take) and await client.read_some():
                        pass
                    # Bytes of an event that was not complete are no event, wherever the cut was.
                    cut_off = client.body if cut == 50 else client.body[:take]
                    got += cut_off[: cut_off.rfind(b"\n\n") + 2] if b"\n\n" in cut_off else b""
                    assert name == client.run
                last = int(got.rpartition(b"id: %b-" % name.encode())[2].partition(b"\n")[0]) if got else 0
                gateway = next(places)
                if cut % 4 < 2:
                    client = Client(gateway.port, f"/run/{name}/stream?after={last}")
                else:
                    headers = {"Last-Event-ID": f"{name}-{last}", **EVENT_STREAM}
                    client = Client(gateway.port, "/function/fn", headers=headers)
                if got.endswith(END):
                    break

            assert talker.whole(name) == got
            assert 1 == talker.starts

    run(main())


def test_what_was_cut_goes_on_from_the_event_after_the_last(nats_url: str) -> None:
    """An EventSource that comes back: the same run's id, the next event first, then 204 for good."""

    async def main() -> None:
        talker = Talker(30, gap_s=0.02)
        async with post(nats_url, talker) as a:
            async with Client(a.port, "/function/fn", headers=EVENT_STREAM) as first:
                await first.read_until(b"-5\n")
            last = {"Last-Event-ID": f"{first.run}-5", **EVENT_STREAM}
            async with Client(a.port, "/function/fn", headers=last) as again:
                rest = await again.read_all()
            last["Last-Event-ID"] = f"{first.run}-31"
            async with Client(a.port, "/function/fn", headers=last) as drained:
                await drained.read_all()

            assert talker.whole(first.run).partition(b"data: 4\n\n")[2] == rest
            assert first.run == again.run
            assert 204 == drained.status
            assert 1 == talker.starts

    run(main())


def test_an_expired_run_is_never_started_anew(nats_url: str) -> None:
    """After its keep time: 410, by every way back to it."""

    async def main() -> None:
        talker = Talker(3)
        async with post(nats_url, talker, flags={"run_keep_s": 1}) as a, a.http() as http:
            name = (await http.post("/function/fn")).headers["x-call-id"]
            await asyncio.sleep(1.0)
            await a.runs.sweep()
            await a.wait_record(name, lambda record: record["expired"])
            back = {"Last-Event-ID": f"{name}-1"}
            unknown = {"Last-Event-ID": f"{'a' * 26}-1"}
            found = [
                await http.get(f"/run/{name}/stream"),
                await http.get("/function/fn", headers=back),
                await http.get("/function/fn", headers=unknown),
            ]

            assert [410, 410, 410] == [reply.status_code for reply in found]
            assert 1 == talker.starts

    run(main())


def test_an_id_of_somebody_else_reaches_the_function(nats_url: str) -> None:
    """What does not parse, or belongs to a run of another function, starts a call as it would without."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a, a.http() as http:
            other = Record("b" * 26, "other.openfaas-fn", "done", 1.0, ended_at=time.time())
            await a.runs.store.publish(record_subject(other.id), encode_record(other))
            for value in ("42", f"{other.id}-1"):
                await http.get("/function/fn", headers={"Last-Event-ID": value})

            assert ["42", f"{other.id}-1"] == [call.headers["last-event-id"] for call in talker.calls]

    run(main())


# Keys.


def test_one_key_is_one_start(each_nats: str) -> None:
    """Three at once on two gateways, and one after it is over: one start, everybody has all of it."""

    async def main() -> None:
        talker = Talker(20, gap_s=0.01)
        async with (
            post(each_nats, talker) as a,
            post(each_nats, talker) as b,
            a.http() as http,
            b.http() as other,
        ):
            key = {"Idempotency-Key": "one"}
            ways = (http, http, other)
            replies = await asyncio.gather(*(w.post("/function/fn", content=b"q", headers=key) for w in ways))
            late = await other.post("/function/fn", content=b"q", headers=key)

            names = {reply.headers["x-call-id"] for reply in [*replies, late]}
            assert 1 == len(names)
            assert {talker.whole(names.pop())} == {reply.content for reply in [*replies, late]}
            assert 1 == talker.starts

    run(main())


def test_a_key_with_another_request_is_refused(nats_url: str) -> None:
    """422 for another body; another caller's key of the same name is a key of its own."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a, a.http() as http:
            key = {"Idempotency-Key": "two"}
            first = await http.post("/function/fn", content=b"q", headers=key)
            second = await http.post("/function/fn", content=b"r", headers=key)
            third = await http.post(
                "/function/fn", content=b"q", headers={**key, "Authorization": "Bearer x"}
            )

            assert [200, 422, 200] == [reply.status_code for reply in (first, second, third)]
            assert first.headers["x-call-id"] != third.headers["x-call-id"]
            assert 2 == talker.starts

    run(main())


def test_a_joined_failure_has_the_status_of_the_first(nats_url: str) -> None:
    """Whoever comes with the key later is told the same 500."""

    async def main() -> None:
        async def fail(_: MemoryCall) -> MemoryReply:
            raise RuntimeError("no")

        async with post(nats_url, fail) as a, a.http() as http:
            key = {"Idempotency-Key": "three"}
            replies = [await http.post("/function/fn", content=b"q", headers=key) for _ in range(2)]

            assert [500, 500] == [reply.status_code for reply in replies]
            assert replies[0].headers["x-call-id"] == replies[1].headers["x-call-id"]

    run(main())


def test_a_failure_behind_an_untold_head_has_the_status_of_the_first(nats_url: str) -> None:
    """Nobody was told the function's 200 when its replica died: the record, and who comes later, say 502."""

    async def handler(_: MemoryCall) -> MemoryReply:
        async def broken() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.05)  # the head goes out alone
            raise RuntimeError("before the first byte")
            yield b""

        return MemoryReply(headers=NATIVE, body=broken())

    async def main() -> None:
        async with _two(nats_url, handler) as (a, b), a.http() as http, b.http() as other:
            key = {"Idempotency-Key": "untold"}
            first = await http.post("/function/fn", content=b"q", headers=key)
            name = first.headers["x-call-id"]
            record = await b.wait_record(name, _is_over)
            joined = [await each.post("/function/fn", content=b"q", headers=key) for each in (http, other)]

            assert ("failed", 502) == (record["state"], record["status"])
            assert [502] * 3 == [reply.status_code for reply in (first, *joined)]
            assert {name} == {reply.headers["x-call-id"] for reply in joined}
            assert all("replica" in reply.text for reply in joined)

    run(main())


# Viewers.


def test_viewers_that_join_at_any_time_have_all_of_it(each_nats: str) -> None:
    """At 0, 30 and 70 %, on either gateway; one that leaves changes nothing for the others."""

    async def main() -> None:
        talker = Talker(60, gap_s=0.01)
        async with post(each_nats, talker) as a, post(each_nats, talker) as b:
            async with Client(a.port, "/function/fn", method="POST") as first:
                await first.read_head()
                target = f"/run/{first.run}/stream"
                viewers = [Client(b.port, target), Client(a.port, target), Client(b.port, target)]
                leaving = Client(b.port, target)
                async with viewers[0], leaving, contextlib.AsyncExitStack() as stack:
                    for viewer, at in zip(viewers[1:], (18, 42), strict=True):
                        await first.read_until(b"data: %d\n" % at)
                        await stack.enter_async_context(viewer)
                        leaving.cut()
                    bodies = await asyncio.gather(*(one.read_all() for one in [first, *viewers]))

            assert [talker.whole(first.run)] * 4 == bodies
            assert 1 == talker.starts

    run(main())


def test_the_last_one_leaving_asks_the_policy_once(each_nats: str) -> None:
    """With `cancel` the run outlives its first client while somebody watches elsewhere, then ends."""

    async def main() -> None:
        talker = Talker(1000, gap_s=0.02)
        here = {"com.tailrace.on-disconnect": "cancel"}
        async with post(each_nats, talker, annotations=here) as a, post(each_nats, talker) as b:
            async with Client(a.port, "/function/fn", method="POST") as first:
                await first.read_until(b"data: 1\n")
                async with Client(b.port, f"/run/{first.run}/stream") as viewer:
                    await viewer.read_until(b"data: 2\n")
                    first.cut()
                    await viewer.read_until(b"data: 20\n")
                    assert "streaming" == (await a.record(first.run))["state"]
                left_at = time.monotonic()
            record = await a.wait_record(first.run, _is_over)

            assert time.monotonic() - left_at < 0.5
            assert ("cancelled", "client_gone") == (record["state"], record["end_reason"])
            assert 1 == a.runs.numbers.ended_alone
            await talker.wait_stopped()

    run(main())


def test_a_viewer_that_takes_nothing_is_let_go(nats_url: str) -> None:
    """200 of them cost under 50 MB, and the run goes on at full speed for who reads."""

    async def main() -> None:
        talker = Talker(300, gap_s=0.002, padding=8000)
        async with post(nats_url, talker) as a, contextlib.AsyncExitStack() as stack:
            async with Client(a.port, "/function/fn", method="POST") as first:
                await first.read_until(b"data: 1.")
                before = _rss_bytes()
                for _ in range(200):
                    stack.enter_context(_deaf(a.port, f"/run/{first.run}/stream"))
                began = time.monotonic()
                await first.read_all()
                took_s = time.monotonic() - began

            assert talker.whole(first.run) == first.body
            assert took_s < 10
            assert _rss_bytes() - before < 50 * 1024 * 1024

    run(main())


@contextlib.contextmanager
def _deaf(port: int, target: str) -> Iterator[None]:
    """A client that asks and never reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        yield


def _rss_bytes() -> int:
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_first_client_that_does_not_keep_up_is_told_where_to_go_on(nats_url: str) -> None:
    """It is dropped after a third of the stall clock, the run goes on, and what it missed is there."""

    async def main() -> None:
        talker = Talker(480, gap_s=0.004, padding=8000)
        async with post(nats_url, talker, flags={"stall_timeout_s": 3}) as a:
            async with Client(a.port, "/function/fn", method="POST") as slow:
                await slow.read_head()
                slow.pause()
                record = await a.wait_record(slow.run, lambda _: a.runs.numbers.viewers_dropped > 0)
                slow.resume()
                body = await slow.read_all()
            talker.hurry.set()
            record = await a.wait_record(slow.run, _is_over)
            after = body.count(b"\nid: ") + 1
            async with Client(a.port, f"/run/{slow.run}/stream?after={after}") as again:
                rest = await again.read_all()

            assert "done" == record["state"]
            told, _, frame = body.rpartition(b"event: error\n")
            assert b"viewer_too_slow" in frame
            assert f"/run/{slow.run}/stream?after={after}".encode() in frame
            assert talker.whole(slow.run) == told + rest
            assert 1 == a.runs.numbers.viewers_dropped

    run(main())


def test_a_viewer_that_does_not_keep_up_is_told_where_to_go_on(nats_url: str) -> None:
    """On the gateway that does not run it, which loses nothing by it either."""

    async def main() -> None:
        talker = Talker(480, gap_s=0.004, padding=8000)
        here = {"stall_timeout_s": 4}
        async with post(nats_url, talker) as a, post(nats_url, talker, flags=here) as b:
            async with Client(a.port, "/function/fn", method="POST") as first:
                await first.read_head()
                async with Client(b.port, f"/run/{first.run}/stream") as slow:
                    await slow.read_head()
                    slow.pause()
                    await first.read_all()
                    await asyncio.sleep(1.0)
                    slow.resume()
                    body = await slow.read_all()
            after = body.count(b"\nid: ") + 1
            async with Client(a.port, f"/run/{first.run}/stream?after={after}") as again:
                rest = await again.read_all()

            told, _, frame = body.rpartition(b"event: error\n")
            assert f"/run/{first.run}/stream?after={after}".encode() in frame
            assert talker.whole(first.run) == told + rest == first.body
            assert 1 == b.runs.numbers.viewers_dropped

    run(main())


# Stop, and leaving.


@pytest.mark.parametrize("way", [("DELETE", ""), ("POST", "/stop")])
def test_a_run_is_stopped_from_the_other_gateway(each_nats: str, way: tuple[str, str]) -> None:
    """Within 200 ms, for good, with its text kept; a second time answers the same."""

    async def main() -> None:
        talker = Talker(10_000, gap_s=0.005)
        policy = {"com.tailrace.on-disconnect": "continue"}
        async with (
            post(each_nats, talker, annotations=policy) as a, post(each_nats, talker) as b, b.http() as http
        ):  # fmt: skip
            async with Client(a.port, "/function/fn", method="POST") as first:
                await first.read_until(b"data: 40\n")
            await asyncio.sleep(0.1)
            assert "streaming" == (await b.record(first.run))["state"]
            began = time.monotonic()
            stopped = (await http.request(way[0], f"/run/{first.run}{way[1]}")).json()
            took_s = time.monotonic() - began
            again = (await http.request(way[0], f"/run/{first.run}{way[1]}")).json()
            async with Client(b.port, f"/run/{first.run}/stream") as viewer:
                await viewer.read_all()

            assert took_s < 0.2
            assert ("cancelled", "cancelled", "the run was stopped") == tuple(
                stopped[key] for key in ("state", "end_reason", "error")
            )
            assert stopped == again
            assert stopped["events"] == viewer.body.count(b"\ndata: ") - 2
            assert {"input_tokens": None, "output_tokens": stopped["events"], "estimated": True} == stopped[
                "usage"
            ]
            assert b'{"code":"cancelled"' in viewer.body
            assert b"data: 40\n" in viewer.body
            await talker.wait_stopped()

    run(main())


def test_who_comes_back_within_the_grace_saves_the_run(each_nats: str) -> None:
    """`grace:1s`: back after 0.7 s it goes on; without anybody it ends after 1 s."""

    async def main() -> None:
        talker = Talker(1000, gap_s=0.01)
        policy = {"com.tailrace.on-disconnect": "grace:1s"}
        async with post(each_nats, talker, annotations=policy) as a:
            async with Client(a.port, "/function/fn", method="POST") as first:
                await first.read_until(b"data: 1\n")
            await asyncio.sleep(0.7)
            async with Client(a.port, f"/run/{first.run}/stream?after=2") as back:
                await back.read_until(b"data: 130\n")
                assert 0 == talker.stopped
            left_at = time.monotonic()
            record = await a.wait_record(first.run, _is_over)

            assert 0.9 < time.monotonic() - left_at < 1.6
            assert ("cancelled", "client_gone") == (record["state"], record["end_reason"])
            async with Client(a.port, f"/run/{first.run}/stream") as late:
                await late.read_all()
            assert b'event: error\ndata: {"code":"cancelled"' in late.body

    run(main())


def test_a_caller_may_choose_less_and_nothing_more(nats_url: str) -> None:
    """`X-Tailrace-On-Disconnect: cancel` ends at once; `continue` is refused, the function has a grace."""

    async def main() -> None:
        talker = Talker(1000, gap_s=0.01)
        async with post(nats_url, talker) as a:
            less, more = ({"X-Tailrace-On-Disconnect": policy} for policy in ("cancel", "continue"))
            async with Client(a.port, "/function/fn", headers=less) as first:
                await first.read_until(b"data: 1\n")
            record = await a.wait_record(first.run, _is_over)
            async with Client(a.port, "/function/fn", headers=more) as refused:
                await refused.read_all()

            assert "client_gone" == record["end_reason"]
            assert (400, 1) == (refused.status, talker.starts)

    run(main())


def test_a_call_that_is_not_recorded_ends_with_its_client(nats_url: str) -> None:
    """As it always did; and a header of its caller has it recorded."""

    async def main() -> None:
        talker = Talker(1000, gap_s=0.01)
        plain = {"com.tailrace.stream.record": "false"}
        async with post(nats_url, talker, annotations=plain) as a, a.http() as http:
            async with Client(a.port, "/function/fn") as first:
                await first.read_until(b"data: 1\n")
            await talker.wait_stopped()
            talker.hurry.set()
            asked = await http.get("/function/fn", headers={"X-Tailrace-Record": "1"})

            assert b"id:" not in first.body
            assert 404 == (await http.get(f"/run/{first.run}")).status_code
            assert talker.whole(asked.headers["x-call-id"]) == asked.content

    run(main())


def test_a_browsers_preflight_is_no_run(nats_url: str) -> None:
    """Nobody can read what it is answered with: of a function that is recorded it is a call as any other."""

    async def main() -> None:
        talker = Talker(3, gap_s=0)
        async with post(nats_url, talker) as a, a.http() as http:
            asked = await http.request("OPTIONS", "/function/fn", headers={"X-Tailrace-Record": "1"})

            assert b"id:" not in asked.content
            assert 404 == (await http.get(f"/run/{asked.headers['x-call-id']}")).status_code

    run(main())


def test_a_gateway_that_drains_ends_what_goes_on_alone(nats_url: str) -> None:
    """A run without anybody is a call like the others: the drain waits for it, then ends it with a reason."""

    async def main() -> None:
        talker = Talker(1000, gap_s=0.01)
        async with post(nats_url, talker) as a, post(nats_url, talker) as b:
            async with Client(a.port, "/function/fn") as first:
                await first.read_until(b"data: 1\n")
            await a.edge.drain(0.5)
            record = await b.wait_record(first.run, _is_over)

            assert ("failed", "drain") == (record["state"], record["end_reason"])

    run(main())


# What is recorded.


def test_other_answers_are_recorded_as_they_are(nats_url: str) -> None:
    """JSON with its status, NDJSON by lines, OpenAI chunks without ids; the same for who comes later."""
    chunk = b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}\n\n'

    async def pieces(*found: bytes) -> AsyncIterator[bytes]:
        for piece in found:
            yield piece

    async def handler(call: MemoryCall) -> MemoryReply:
        kind = call.target.strip("/")
        if kind == "json":
            return MemoryReply(404, {"Content-Type": "application/json"}, b'{"no":1}')
        if kind == "ndjson":
            return MemoryReply(
                headers={"Content-Type": "application/x-ndjson"}, body=pieces(b'{"a":', b"1}\n{}\n")
            )
        return MemoryReply(
            headers={"Content-Type": "text/event-stream"}, body=pieces(chunk, chunk[:9], chunk[9:])
        )

    async def main() -> None:
        async with (
            post(nats_url, handler) as a,
            post(nats_url, handler) as b,
            a.http() as http,
            b.http() as other,
        ):
            for kind in ("json", "ndjson", "openai"):
                key = {"Idempotency-Key": kind}
                first = await http.post(f"/function/fn/{kind}", headers=key)
                again = await other.post(f"/function/fn/{kind}", headers=key)
                record = await b.record(first.headers["x-call-id"])

                assert first.content == again.content
                assert first.status_code == again.status_code
                assert first.headers["content-type"] == again.headers["content-type"]
                assert record["bytes"] == len(first.content)
            assert 2 == record["events"]
            assert b"id:" not in first.content

    run(main())


def test_a_plain_answer_that_broke_is_cut_for_its_viewers_too(nats_url: str) -> None:
    """No last chunk for whoever comes later, on either gateway."""

    async def handler(_: MemoryCall) -> MemoryReply:
        async def broken() -> AsyncIterator[bytes]:
            yield b"some"
            raise RuntimeError("no more")

        return MemoryReply(headers={"Content-Type": "text/plain"}, body=broken())

    async def main() -> None:
        async with _two(nats_url, handler) as (a, b):
            async with Client(a.port, "/function/fn") as first:
                await first.read_all()
            record = await a.wait_record(first.run, _is_over)
            for gateway in (a, b):
                async with Client(gateway.port, f"/run/{first.run}/stream") as later:
                    await later.read_all()
                assert (b"some", False) == (later.body, later.is_whole)
            async with Client(b.port, f"/run/{first.run}/stream?format=ndjson") as told:
                await told.read_all()

            assert ("failed", "replica_died") == (record["state"], record["end_reason"])
            assert b'"end":"error","code":"replica_failed"' in told.body

    run(main())


def test_a_key_asks_for_the_body_it_waits_for(nats_url: str) -> None:
    """`Expect: 100-continue` is answered before the run is known."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a:
            reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(
                b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n"
                b"Idempotency-Key: expecting\r\nConnection: close\r\n\r\n"
            )
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"q")
            answer = await reader.read()
            writer.close()

            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"q" == talker.calls[0].body

    run(main())


def test_beyond_four_mebibytes_a_run_is_truncated_and_goes_on(nats_url: str) -> None:
    """Its client has all of it; who watches later is told where the record ends."""

    async def main() -> None:
        talker = Talker(800, padding=8000)
        async with post(nats_url, talker) as a, post(nats_url, talker) as b:
            async with Client(a.port, "/function/fn") as first:
                await first.read_all()
            record = await a.wait_record(first.run, _is_over)
            async with Client(b.port, f"/run/{first.run}/stream") as later:
                await later.read_all()

            assert first.is_whole
            assert 801 == first.body.count(b"data: ")
            assert ("done", True) == (record["state"], record["truncated"])
            assert b"run_truncated" in later.body
            assert first.body.startswith(later.body[: later.body.rfind(b"id: ")])

    run(main())


def test_the_worker_alone_names_a_run(nats_url: str) -> None:
    """Over the private socket `X-Call-Id` is the run's id; from a client it never is."""

    async def main() -> None:
        talker = Talker(2)
        async with post(nats_url, talker) as a, a.http() as http:
            name = "c" * 26
            reader, writer = await asyncio.open_unix_connection(a.private)
            writer.write(
                b"POST /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n"
                b"X-Call-Id: %b\r\n\r\n" % name.encode()
            )
            await reader.read()
            writer.close()
            record = await a.wait_record(name, _is_over)
            asked = await http.post("/function/fn", headers={"X-Call-Id": "d" * 26})

            assert (True, "done") == (record["async"], record["state"])
            assert "d" * 26 != asked.headers["x-call-id"]
            assert [name, "d" * 26] == [
                talker.calls[0].headers["x-call-id"],
                talker.calls[1].headers["x-client-call-id"],
            ]

    run(main())


def test_a_call_of_the_queue_is_one_run_however_often_it_is_tried(nats_url: str) -> None:
    """A try that fails leaves it waiting; another gateway goes on with it; given up or over it stays so."""
    tries = list[str]()

    async def handler(call: MemoryCall) -> MemoryReply:
        tries.append(call.headers["x-call-id"])
        if len(tries) != 2:
            raise RuntimeError("not yet")
        return MemoryReply(headers=NATIVE, body=Talker(2)._talk())

    async def work(gateway: Post, name: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(gateway.private)
        writer.write(
            b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Call-Id: %b\r\n\r\n"
            % name.encode()
        )
        answer = await reader.read()
        writer.close()
        return answer[9:12]

    async def main() -> None:
        async with _two(nats_url, handler) as (a, b):
            first, second = "e" * 26, "f" * 26
            for name in (first, second):
                await a.runs.tries.enqueue(name, "fn.openfaas-fn")
            async with Client(a.port, f"/run/{first}/stream") as viewer:
                failed = await work(a, first)
                waiting = await a.wait_record(
                    first, lambda found: bool(found["attempts"] and found["end_reason"])
                )
                done, again = await work(b, first), await work(b, first)
                seen = await viewer.read_all()
            record = await a.wait_record(first, _is_over)
            await work(a, second)
            given_up = await a.runs.tries.give_up(second, "error_function", "tried often enough")
            async with Client(b.port, f"/run/{second}/stream") as late:
                await late.read_all()

            assert (b"500", b"200", b"409") == (failed, done, again)
            assert ("queued", "error_function") == (waiting["state"], waiting["end_reason"])
            assert ("done", 2, "") == (
                record["state"],
                record["attempts"],
                record["end_reason"].replace("done", ""),
            )
            assert Talker(2).whole(first) == seen
            assert ("failed", b"tried often enough\n") == (given_up.state, late.body)
            assert [first, first, second] == tries

    run(main())


def test_runs_are_listed_newest_first(nats_url: str) -> None:
    """By function and state, in pages."""

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker) as a, a.http() as http:
            names = [(await http.post("/function/fn")).headers["x-call-id"] for _ in range(5)]
            for name in names:
                await a.wait_record(name, _is_over)
            found, cursor = list[str](), "0"
            while len(found) < 5:
                query = {"function": "fn", "state": "done", "limit": "2", "cursor": cursor}
                page = (await http.get("/runs", params=query)).json()
                found += [run["id"] for run in page["runs"]]
                cursor = page["cursor"]
            bad = [
                await http.get(f"/runs?{query}")
                for query in ("state=no", "limit=0", "cursor=x", "function=-")
            ]

            assert names[::-1] == found[:5]
            assert [] == (await http.get("/runs?state=queued&function=fn")).json()["runs"]
            assert [400] * 4 == [reply.status_code for reply in bad]

    run(main())


def test_a_listing_goes_on_past_places_without_records(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many places in a row hold none, a page may be empty, and its cursor leads on all the same."""
    monkeypatch.setattr(store, "_LOOKED_AT", 5)

    async def main() -> None:
        async with post(nats_url, Talker(1)) as a, a.http() as http:
            name = (await http.post("/function/fn")).headers["x-call-id"]
            await a.wait_record(name, _is_over)
            await a.runs.journal.flush(5)
            for number in range(12):
                await a.runs.claim(f"gap{number}", Claim("g" * 26, ""))
            pages, cursors = list[str](), ["0"]
            while name not in pages and cursors[-1] and len(cursors) < 10:
                page = (await http.get("/runs", params={"limit": "2", "cursor": cursors[-1]})).json()
                pages += [run["id"] for run in page["runs"]] or [""]
                cursors.append(page["cursor"])

            assert [""] * 2 == pages[:2]
            assert name in pages
            assert len(set(cursors)) == len(cursors)

    run(main())


# What dies.


def test_runs_of_a_dead_gateway_are_closed_truthfully(tmp_path: Path) -> None:
    """By another one after the lease, by the restarted one at once; what was recorded stays readable."""

    async def main() -> None:
        talker = Talker(1)
        with NatsServer(tmp_path) as server:
            async with post(server.url, talker, node="n" * 16) as a:
                for name, gateway in (("a" * 26, f"{'n' * 16}-old"), ("b" * 26, "m-gone")):
                    record = Record(
                        name, "fn.openfaas-fn", "streaming", time.time(), gateway=gateway, attempts=1
                    )
                    head = Head(200, list(NATIVE.items()), "native")
                    for message in (pack_head(head), *pack_pieces(1, [b"data: 0\n\n"])):
                        await a.runs.store.publish(event_subject(name), message)
                    await a.runs.store.publish(record_subject(name), encode_record(record))
                began = time.monotonic()
                await a.runs.sweep()
                own = await a.wait_record("a" * 26, _is_over)
                async with Client(a.port, f"/run/{'b' * 26}/stream") as viewer:
                    await viewer.read_until(b"data: 0\n")
                    await asyncio.sleep(max(0.0, began + LEASE_S - time.monotonic()))
                    await a.runs.sweep()
                    await viewer.read_all()
                other = await a.wait_record("b" * 26, _is_over)

                for closed in (own, other):
                    assert ("failed", "replica_lost", 1, len("data: 0\n\n")) == tuple(
                        closed[key] for key in ("state", "end_reason", "events", "bytes")
                    )
                assert b'"code":"replica_lost"' in viewer.body
                assert 0 == talker.starts

    run(main())


def test_a_gateway_that_was_taken_for_dead_has_its_runs_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off from NATS for longer than the lease: closed by another one; true again at its return."""
    monkeypatch.setattr(journal, "PATIENCE_S", 60.0)

    async def main() -> None:
        talker = Talker(3000, gap_s=0.01)
        with NatsServer(tmp_path) as server:
            async with (
                Way(server.port) as way,
                post(f"nats://127.0.0.1:{way.port}", talker) as a,
                post(server.url, talker) as b,
                Client(a.port, "/function/fn") as first,
            ):
                await first.read_until(b"data: 20\n")
                await b.wait_record(first.run, lambda record: record["state"] == "streaming")
                await way.close()
                async with asyncio.timeout(20):
                    while not _is_over(closed := await b.record(first.run)):
                        await b.runs.sweep()
                await way.open()
                await b.wait_record(first.run, lambda record: record["state"] == "streaming")
                async with Client(b.port, f"/run/{first.run}/stream") as viewer:
                    await viewer.read_until(b"data: 20\n")
                    talker.hurry.set()
                    await viewer.read_all()
                await first.read_all()
                ended = await b.wait_record(first.run, _is_over)

                assert ("failed", "replica_lost") == (closed["state"], closed["end_reason"])
                assert ("done", 3001, "") == (ended["state"], ended["events"], ended["unrecorded"])
                assert [talker.whole(first.run)] * 2 == [first.body, viewer.body]

    run(main())


def test_a_moment_without_nats_loses_nothing(tmp_path: Path) -> None:
    """It is killed and comes back within the patience: the stream never stops, and all of it is recorded."""

    async def main() -> None:
        talker = Talker(400, gap_s=0.01)
        with NatsServer(tmp_path) as server:
            async with post(server.url, talker) as a, post(server.url, talker) as b:
                async with Client(a.port, "/function/fn") as first:
                    await first.read_until(b"data: 50\n")
                    async with Client(b.port, f"/run/{first.run}/stream") as viewer:
                        await viewer.read_until(b"data: 50\n")
                        server.kill()
                        await first.read_until(b"data: 150\n")
                        server.start()
                        await first.read_all()
                        await viewer.read_all()
                record = await a.wait_record(first.run, _is_over)
                async with Client(b.port, f"/run/{first.run}/stream") as later:
                    await later.read_all()

                assert [talker.whole(first.run)] * 3 == [first.body, viewer.body, later.body]
                assert "" == record["unrecorded"]

    run(main())


def test_a_reading_that_broke_is_gone_on_with_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS is away for longer than viewers elsewhere are let wait: no event is lost to who comes back."""
    monkeypatch.setattr(feed, "PATIENCE_S", 0.3)
    monkeypatch.setattr(store, "ASK_S", 0.5)
    monkeypatch.setattr(journal, "PATIENCE_S", 60.0)

    async def main() -> None:
        talker = Talker(3000, gap_s=0.01)
        with NatsServer(tmp_path) as server:
            async with (
                post(server.url, talker) as a,
                post(server.url, talker) as b,
                Client(a.port, "/function/fn") as first,
            ):
                await first.read_head()
                async with Client(b.port, f"/run/{first.run}/stream") as viewer:
                    await viewer.read_until(b"data: 20\n")
                    server.kill()
                    await viewer.read_all()
                server.start()
                seen, _, error = viewer.body.rpartition(b"event: error")
                last = seen.rpartition(b"id: %b-" % first.run.encode())[2].partition(b"\n")[0].decode()
                target = f"/run/{first.run}/stream?after={last}"
                await b.wait_record(first.run, lambda record: record["state"] == "streaming")
                talker.hurry.set()
                async with Client(b.port, target) as again:
                    await again.read_all()
                await first.read_all()

                assert b"runs_unavailable" in error
                assert talker.whole(first.run) == first.body == seen + again.body

    run(main())


def test_one_server_of_three_may_die(tmp_path: Path) -> None:
    """The one that a gateway talks to: the stream does not stop, and all of it is recorded and watched."""

    async def main() -> None:
        talker = Talker(400, gap_s=0.01)
        with NatsCluster(tmp_path) as cluster:
            async with post(cluster.url, talker) as a, post(cluster.url, talker) as b:
                async with Client(a.port, "/function/fn") as first:
                    await first.read_until(b"data: 50\n")
                    async with Client(b.port, f"/run/{first.run}/stream") as viewer:
                        await viewer.read_until(b"data: 50\n")
                        url = a.client.connected_url
                        assert url is not None
                        next(node for node in cluster.nodes if node.port == url.port).kill()
                        await first.read_all()
                        await viewer.read_all()
                record = await a.wait_record(first.run, _is_over)
                async with Client(b.port, f"/run/{first.run}/stream") as later:
                    await later.read_all()

                assert [talker.whole(first.run)] * 3 == [first.body, viewer.body, later.body]
                assert "" == record["unrecorded"]

    run(main())


async def _is_stored(gateway: Post, name: str) -> bool:
    with contextlib.suppress(RunsUnavailable):
        record = await gateway.runs.store.find_record(name)
        return record is not None and record.state == "done"
    return False


def test_without_nats_a_stream_goes_on_unrecorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client has all of it, its record says so; a key, that could not be held, is refused."""
    monkeypatch.setattr(journal, "PATIENCE_S", 2.0)

    async def main() -> None:
        talker = Talker(1500, gap_s=0.01)
        with NatsServer(tmp_path) as server:
            async with post(server.url, talker) as a, a.http() as http:
                async with Client(a.port, "/function/fn") as first:
                    await first.read_until(b"data: 50\n")
                    server.kill()
                    keyed = await http.post("/function/fn", headers={"Idempotency-Key": "x"})
                    await first.read_until(b"data: 400\n")
                    talker.hurry.set()
                    await first.read_all()
                async with Client(a.port, "/function/fn") as second:
                    await second.read_all()
                records = [await a.record(one.run) for one in (first, second)]
                server.start()
                async with asyncio.timeout(10):
                    while not await _is_stored(a, first.run):
                        await asyncio.sleep(0.05)

                assert (503, True, True) == (keyed.status_code, first.is_whole, second.is_whole)
                assert 1500 == first.body.count(b"data: ") - 1
                assert all("JetStream" in record["unrecorded"] for record in records)
                assert b"id:" not in second.body

    run(main())
