"""Results are delivered: with OpenFaaS's headers, signed, until they are taken, and to nobody in here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest
import uvloop

from tailrace.provider.memory import MemoryCall, MemoryReply
from tailrace.queue.caller import EdgeCaller
from tailrace.queue.consumers import CALLBACKS
from tailrace.queue.delivery import Delivery, find_address
from tailrace.queue.handling import Handling
from tailrace.queue.places import PER_HOST
from tailrace.queue.served import TableFunctions
from tailrace.queue.targets import Target
from tailrace.queue.worker import Worker
from tests.kit.queue import QUICK, ask, is_over, wait_dead
from tests.kit.receiver import Delivered, hanging, receiving
from tests.kit.runs import Post, Talker, post

pytestmark = pytest.mark.slow
PRIVATE: Mapping[str, object] = {"callback_allow_private": "true"}


async def call(gateway: Post, url: str, **more: Any) -> str:
    """POST an asynchronous call with a callback; its id."""
    reply = await ask(gateway, headers={"X-Callback-Url": url}, **more)
    assert reply.status_code == 202, reply.text
    name: str = reply.headers["x-call-id"]
    return name


def test_a_result_is_delivered(nats_url: str) -> None:
    """Body, status and headers of the function, OpenFaaS's own, and a signature that holds."""

    async def handler(asked: MemoryCall) -> MemoryReply:
        return MemoryReply(201, {"Content-Type": "image/png", "X-Own": "yes"}, b"\x00result")

    async def main() -> None:
        async with post(nats_url, handler, flags=PRIVATE) as a, receiving() as receiver:
            headers = {"X-Callback-Url": f"{receiver.url}/cb?x=1"}
            accepted = await ask(a, content=b"hi", headers=headers)
            name = accepted.headers["x-call-id"]
            (came,) = await receiver.wait(1)
            assert a.worker is not None
            assert await a.worker.wait_idle(5)

            assert ("/cb?x=1", b"\x00result", name) == (came.target, came.body, came.run)
            assert ("201", "fn.openfaas-fn") == (
                came.headers["x-function-status"],
                came.headers["x-function-name"],
            )
            assert 0 < float(came.headers["x-duration-seconds"]) < 5
            assert accepted.headers["x-start-time"] == came.headers["x-start-time"]
            assert ("image/png", "yes") == (came.headers["content-type"], came.headers["x-own"])
            assert came.is_signed(a.intake.secret)
            assert not came.is_signed(b"another secret, as long as it")
            assert 1 == a.queue.delivered

    uvloop.run(main())


def test_a_function_cannot_speak_for_the_platform(nats_url: str) -> None:
    """Of what the platform says in a result nothing is the function's, however it spells the name."""
    forged = (
        "X-Call-Id", "X-Start-Time", "X-Function-Name", "X-Function-Status", "X-Duration-Seconds", "X-Retry",
        "X-Retry-Max", "X-Tailrace-Timestamp", "X-Tailrace-Signature", "X-Tailrace-Error",
        "X-Tailrace-Truncated", "X-TAILRACE-ANY", "x_function_status",
    )  # fmt: skip

    async def handler(asked: MemoryCall) -> MemoryReply:
        return MemoryReply(200, {**dict.fromkeys(forged, "777"), "X-Own": "yes"}, b"result")

    async def main() -> None:
        async with post(nats_url, handler, flags=PRIVATE) as a, receiving() as receiver:
            name = await call(a, receiver.url)
            (came,) = await receiver.wait(1)

            assert (name, "200", "yes") == (
                came.run, came.headers["x-function-status"], came.headers["x-own"],
            )  # fmt: skip
            assert came.is_signed(a.intake.secret)
            assert "777" not in came.headers.values()
            assert sorted(set(came.names)) == sorted(came.names)
            assert not {"x-tailrace-error", "x-tailrace-truncated", "x_function_status"} & set(came.names)

    uvloop.run(main())


def test_a_receiver_that_was_down_gets_it_later_and_once(nats_url: str) -> None:
    """Refused connections and a 503 are tried again; what was taken is not sent anew."""
    answers = [503, 429, 200]

    async def main() -> None:
        async with post(nats_url, Talker(2), flags=PRIVATE) as a:
            async with receiving() as receiver:
                port = receiver.port
            name = await call(a, f"http://127.0.0.1:{port}/")
            await a.wait_record(name, is_over)
            async with asyncio.timeout(10):
                while not a.queue.callback_failures:
                    await asyncio.sleep(0.01)

            def answer(_: Delivered) -> tuple[int, str]:
                return answers.pop(0), ""

            async with receiving(port) as receiver:
                receiver.answer = answer
                came = await receiver.wait(3, limit_s=30)
                async with asyncio.timeout(5):
                    while not a.queue.delivered:
                        await asyncio.sleep(0.01)

            assert [name] * 3 == [one.run for one in came]
            assert [] == answers
            assert a.queue.callback_failures >= 3

    uvloop.run(main())


def test_a_receiver_that_hangs_holds_up_its_own_results_alone(nats_url: str) -> None:
    """It is sent four at once; others get theirs meanwhile, and what waits is told, and was not tried."""

    async def main() -> None:
        async with (
            post(nats_url, Talker(1), flags=PRIVATE) as a, hanging() as (url, came), receiving() as receiver,
        ):  # fmt: skip
            names = [await call(a, url) for _ in range(20)]
            for name in names:
                await a.wait_record(name, is_over)
            async with asyncio.timeout(10):
                while len(came) < PER_HOST:
                    await asyncio.sleep(0.01)
            healthy = await call(a, receiver.url)
            await receiver.wait(1, limit_s=10)
            async with asyncio.timeout(5):
                while not a.queue.delivered:
                    await asyncio.sleep(0.01)
            async with a.http() as http:
                listing = (await http.get("/system/queue")).json()

            assert [healthy] == [one.run for one in receiver.came]
            assert PER_HOST == len(came)
            assert (0, 1) == (a.queue.callback_failures, a.queue.delivered)
            assert len(names) == listing["results_waiting"]
            # The next test's worker is not to find them.
            await a.client.jetstream().purge_stream(CALLBACKS)

    uvloop.run(main())


def test_a_failed_call_is_told_too(nats_url: str) -> None:
    """When its tries are used up: the status and the words of the last one, and it is a dead letter."""

    async def handler(asked: MemoryCall) -> MemoryReply:
        return MemoryReply(503, {"Content-Type": "text/plain"}, b"not today")

    async def main() -> None:
        wishes = {"com.openfaas.retry.attempts": "3", **QUICK}
        async with post(nats_url, handler, flags=PRIVATE, annotations=wishes) as a, receiving() as receiver:
            name = await call(a, receiver.url)
            (came,) = await receiver.wait(1)
            (letter,) = await wait_dead(a, name)
            record = await a.record(name)

            assert ("503", b"not today", "2", "3") == (
                came.headers["x-function-status"],
                came.body,
                came.headers["x-retry"],
                came.headers["x-retry-max"],
            )
            assert "tried 3 times" in came.headers["x-tailrace-error"]
            assert ("failed", 3, "call") == (record["state"], record["attempts"], letter.kind)

    uvloop.run(main())


@pytest.mark.parametrize("status", [400, 302])
def test_a_receiver_that_does_not_want_it_is_not_asked_again(nats_url: str, status: int) -> None:
    """What it answers is final: the delivery is a dead letter, the run is as it was."""

    async def main() -> None:
        async with post(nats_url, Talker(1), flags=PRIVATE) as a, receiving() as receiver:
            receiver.answer = lambda _: (status, "Location: /other\r\n")
            name = await call(a, receiver.url)
            (letter,) = await wait_dead(a, name)

            assert ("callback", f"127.0.0.1:{receiver.port} answered {status}") == (letter.kind, letter.error)
            assert 1 == len(receiver.came)
            assert "done" == (await a.record(name))["state"]

    uvloop.run(main())


def test_a_redirect_that_keeps_the_body_is_followed(nats_url: str) -> None:
    """307 and 308, a few of them."""

    async def main() -> None:
        async with post(nats_url, Talker(1), flags=PRIVATE) as a, receiving() as receiver:
            receiver.answer = lambda came: (200, "") if came.target == "/b" else (307, "Location: /b\r\n")
            await call(a, f"{receiver.url}/a")
            came = await receiver.wait(2)

            assert ["/a", "/b"] == [one.target for one in came]
            assert came[0].body == came[1].body

    uvloop.run(main())


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_nowhere_is_final(nats_url: str, status: int) -> None:
    """What is no URL of HTTP will be none at the next try: asked once, then a dead letter."""

    async def main() -> None:
        async with post(nats_url, Talker(1), flags=PRIVATE) as a, receiving() as receiver:
            receiver.answer = lambda _: (status, "Location: mailto:me\r\n")
            name = await call(a, receiver.url)
            (letter,) = await wait_dead(a, name)

            assert ("callback", 1) == (letter.kind, len(receiver.came))
            assert 1 == a.queue.callback_failures

    uvloop.run(main())


def test_a_name_that_leads_to_a_private_address_is_refused(nats_url: str) -> None:
    """DNS is asked when it is delivered; nothing is sent, and the delivery is a dead letter at once."""

    async def main() -> None:
        async with post(nats_url, Talker(1)) as a, receiving() as receiver:
            name = await call(a, f"http://{socket.gethostname()}:{receiver.port}/")
            (letter,) = await wait_dead(a, name)

            assert ("callback", []) == (letter.kind, receiver.came)
            assert "which is not public" in letter.error

    uvloop.run(main())


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest", "http://localhost:80/", "http://[::1]/"]
)
def test_a_redirect_to_a_private_address_is_refused(nats_url: str, location: str) -> None:
    """Each hop is looked at as the first one was."""

    async def find(target: Target, *, allow_private: bool) -> str:
        return (
            "127.0.0.1"
            if target.host == "public.example"
            else await find_address(target, allow_private=False)
        )

    async def main() -> None:
        talker = Talker(1)
        async with post(nats_url, talker, flags={"async_queues": "off"}) as a, receiving() as receiver:
            receiver.answer = lambda _: (307, f"Location: {location}\r\n")
            caller = EdgeCaller(a.runs, a.private)
            delivery = Delivery(
                a.intake.streams, a.intake.secret, lambda: a.edge.settings, a.queue, find=find
            )
            handling = Handling(a.intake.streams, a.runs.tries, caller, lambda: a.edge.settings, a.queue)
            worker = Worker(
                a.intake.streams, handling, delivery, TableFunctions(a.edge.table),
                settings=lambda: a.edge.settings, numbers=a.queue,
            )  # fmt: skip
            await worker.start()
            name = await call(a, f"http://public.example:{receiver.port}/")
            (letter,) = await wait_dead(a, name)
            await worker.aclose()

            assert [name] == [came.run for came in receiver.came]
            assert ("callback", True) == (letter.kind, "no public address" in letter.error)

    uvloop.run(main())
