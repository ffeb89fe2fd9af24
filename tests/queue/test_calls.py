"""Asynchronous calls through a real gateway and NATS: taken in, made, watched, tried again, cancelled."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import httpx
import pytest
import uvloop

from tests.kit.runs import Client, Post, Talker, post

pytestmark = pytest.mark.slow
QUICK = {"com.openfaas.retry.min_wait": "10ms", "com.openfaas.retry.max_wait": "50ms"}


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it as a gateway's loop would."""
    uvloop.run(main)


def is_over(record: dict[str, Any]) -> bool:
    """Whether a run has ended."""
    return record["state"] in ("done", "failed", "cancelled")


async def ask(gateway: Post, path: str = "fn", **more: Any) -> httpx.Response:
    """POST an asynchronous call."""
    async with gateway.http() as http:
        return await http.post(f"/async-function/{path}", **more)


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
