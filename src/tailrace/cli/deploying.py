"""Functions onto a gateway, one after the other, and what came of each: for `deploy` and `store deploy`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from tailrace.cli.result import FAILED, Result, print_note, print_words
from tailrace.cli.rollout import Outcome, Package, named_after, pack, send, wait_outcome
from tailrace.cli.stackfile import StackFunction
from tailrace.client import Client
from tailrace.errors import NotFound, TailraceError
from tailrace.settings import MIB


async def deploy_all(
    client: Client, functions: Iterable[StackFunction], *, wait: bool, is_replacing: bool = False
) -> Result:
    """Pack, upload and deploy; with ``wait`` until each answers or has failed. Says on stderr what happens.

    Raises:
        TailraceError: the only function there is could not be deployed.
    """
    sent: list[tuple[StackFunction, asyncio.Task[Outcome] | Outcome]] = []
    functions = tuple(functions)
    async with asyncio.TaskGroup() as group:
        for function in functions:
            began = time.monotonic()
            try:
                package, revision = await _send(client, function, is_replacing=is_replacing)
            except TailraceError as failed:
                if len(functions) == 1:
                    raise named_after(failed, function) from failed
                outcome = Outcome(is_ready=False, error=failed.text)
                _report(function, outcome, "", began, wait=wait)
                sent.append((function, outcome))
            else:
                task = group.create_task(_settle(client, package, revision, began, wait=wait))
                sent.append((function, task))
    done = [(f, o.result() if isinstance(o, asyncio.Task) else o) for f, o in sent]
    data = [
        {"name": f.name.short, "url": client.function_url(f.name), "ready": o.is_ready, "error": o.error}
        for f, o in done
    ]
    return Result("", data, exit_code=FAILED if any(o.error for _, o in done) else 0)


async def _send(client: Client, function: StackFunction, *, is_replacing: bool) -> tuple[Package, str]:
    package = await asyncio.to_thread(pack, function, limit_bytes=64 * MIB, extra_env={})
    for note in package.notes:
        print_note(f"{function.name.short}: {note}")
    if is_replacing:
        with contextlib.suppress(NotFound):
            await client.remove_function(function.name)
    return package, await send(client, package)


async def _settle(client: Client, package: Package, revision: str, began: float, *, wait: bool) -> Outcome:
    outcome = await wait_outcome(client, package, revision) if wait else Outcome(is_ready=False)
    _report(package.function, outcome, client.function_url(package.function.name), began, wait=wait)
    return outcome


def _report(function: StackFunction, outcome: Outcome, url: str, began: float, *, wait: bool) -> None:
    name = function.name.short
    if outcome.error:
        print_words(f"{name}: failed: {outcome.error}")
        if outcome.serves_old:
            print_words(f"{name}: the earlier code still serves")
    elif wait:
        took = time.monotonic() - began
        print_words(f"{name}: ready in {took:.2f} s (import {outcome.import_s:.2f} s)  {url}")
    else:
        print_words(f"{name}: deployed  {url}")
