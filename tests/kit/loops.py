"""Runs a test's coroutine on the loop that the gateway uses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

# pytest's own time limit cannot interrupt uvloop.
LIMIT_S = 30.0

T = TypeVar("T")


def run(main: Coroutine[None, None, T]) -> T:
    """The coroutine's result, on a uvloop of its own."""

    async def bounded() -> T:
        async with asyncio.timeout(LIMIT_S):
            return await main

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())
