"""A model for the functions beside us: the real local one or the mock, for as long as a context lasts."""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from tailrace.llm.install import Tell, install_model
from tailrace.llm.mock import Behaviour, start_mock
from tailrace.llm.serve import Endpoint, running_model

Kind = Literal["local", "mock"]


@asynccontextmanager
async def running_llm(
    kind: Kind, *, tell: Tell | None = None, port: int = 0, behaviour: Behaviour | None = None
) -> AsyncIterator[Endpoint]:
    """A model that answers on loopback until the context ends.

    ``local`` installs the real one on first use.

    Args:
        tell: Takes lines of progress; None writes them to standard error.
        port: 0 takes a free one.
        behaviour: How the mock answers; the local model has none.
    Raises:
        ModelUnavailable: the local model cannot be installed or started; the hint offers the mock.
        AddressTaken: the port belongs to somebody else.
    """
    tell = tell or _say
    if kind == "local":
        installed = await install_model(tell)
        async with running_model(installed, port=port, tell=tell) as process:
            yield process.endpoint
        return
    api_key = f"mock-{secrets.token_urlsafe(12)}"
    server = await start_mock(port=port, behaviour=behaviour, api_key=api_key)
    try:
        yield Endpoint(server.base_url, api_key, "mock")
    finally:
        await server.aclose()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
