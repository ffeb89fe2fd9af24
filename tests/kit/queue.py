"""Asynchronous calls of a `Post`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tailrace.queue.calls import DeadLetter
from tests.kit.runs import Post

# Annotations of a function whose calls are tried again at once.
QUICK = {"com.openfaas.retry.min_wait": "10ms", "com.openfaas.retry.max_wait": "50ms"}


def is_over(record: dict[str, Any]) -> bool:
    """Whether a run has ended."""
    return record["state"] in ("done", "failed", "cancelled")


async def ask(gateway: Post, path: str = "fn", **more: Any) -> httpx.Response:
    """POST an asynchronous call."""
    async with gateway.http() as http:
        return await http.post(f"/async-function/{path}", **more)


async def wait_dead(gateway: Post, name: str) -> list[DeadLetter]:
    """A call's dead letters, once there are any."""
    async with asyncio.timeout(10):
        while not (found := await gateway.intake.streams.list_dead(name)):
            await asyncio.sleep(0.01)
    return found
