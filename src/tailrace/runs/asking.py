"""Asks JetStream: what it raises becomes an error of ours, and what only reads is asked again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors

from tailrace.errors import RunsUnavailable

# How often what only reads is asked again: a server that dies takes the question with it.
READ_TRIES = 3
FAILURES = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)
T = TypeVar("T")


async def reading(what: str, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that may be asked again.

    Raises:
        RunsUnavailable: there was none.
    """
    async with asking(what):
        for tries_left in range(READ_TRIES - 1, -1, -1):
            try:
                return await ask()
            except FAILURES:
                if not tries_left:
                    raise
        raise AssertionError("a loop without an end")


@contextlib.asynccontextmanager
async def asking(what: str) -> AsyncIterator[None]:
    """What NATS raises, as an error of ours.

    Raises:
        RunsUnavailable: JetStream did not do it.
    """
    try:
        yield
    except FAILURES as failed:
        raise RunsUnavailable(f"JetStream did not {what}: {words_of(failed)}") from failed


def words_of(failed: BaseException) -> str:
    """Why NATS failed, also where the exception has no words."""
    late = isinstance(failed, TimeoutError | nats.errors.TimeoutError)
    return str(failed) or ("it did not answer in time" if late else type(failed).__name__)
