"""``tailrace deploy``: the stack file's functions onto a gateway that is running."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import (
    AsJson,
    Builtin,
    Envsubst,
    Filter,
    GatewayOrStack,
    Regex,
    StackFile,
    Tag,
    TagMode,
)
from tailrace.cli.result import FAILED, Result, finish, print_note
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    import asyncio

    from tailrace.cli.rollout import Outcome
    from tailrace.cli.stackfile import StackFunction
    from tailrace.client import Client


def command(
    file: StackFile = None,
    gateway: GatewayOrStack = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    tag: Tag = TagMode.LATEST,
    builtin: Builtin = True,
    wait: Annotated[bool, typer.Option(help="Wait until the new code answers.")] = True,
    as_json: AsJson = False,
) -> None:
    """Pack, upload and deploy the functions of a stack file, and wait until they answer.

    \b
    Examples:
      tailrace deploy
      tailrace deploy -f stack.yaml --filter 'web-*' --gateway https://fn.example.com
    """
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.session import chosen_gateway, with_client
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=envsubst)
    chosen = stack.select(pattern=filter, regex=regex)
    functions = as_chosen(chosen, tag=tag, builtin=builtin, folder=stack.path.parent)
    for note in stack.notes_on(functions):
        print_note(note)

    async def use(client: Client) -> Result:
        outcomes = await _deploy(client, functions, wait=wait)
        data = [
            {"name": f.name.short, "url": client.function_url(f.name), "ready": o.is_ready, "error": o.error}
            for f, o in outcomes
        ]
        failed = any(o.error for _, o in outcomes)
        return Result("", data, exit_code=FAILED if failed else 0)

    finish(with_client(chosen_gateway(gateway, stack.gateway), use), as_json=as_json)


async def _deploy(
    client: Client, functions: tuple[StackFunction, ...], *, wait: bool
) -> list[tuple[StackFunction, Outcome]]:
    import asyncio

    from tailrace.cli.rollout import Outcome, Package, named_after, pack, send, wait_outcome
    from tailrace.settings import MIB

    async def settle(package: Package, revision: str, begin: float) -> Outcome:
        outcome = await wait_outcome(client, package, revision) if wait else Outcome(is_ready=False)
        _report(package.function, outcome, client.function_url(package.function.name), begin, wait=wait)
        return outcome

    sent: list[tuple[StackFunction, asyncio.Task[Outcome] | Outcome]] = []
    async with asyncio.TaskGroup() as group:
        for function in functions:
            begin = time.monotonic()
            try:
                package = await asyncio.to_thread(pack, function, limit_bytes=64 * MIB, extra_env={})
                for note in package.notes:
                    print_note(f"{function.name.short}: {note}")
                revision = await send(client, package)
            except TailraceError as failed:
                if len(functions) == 1:
                    raise named_after(failed, function) from failed
                outcome = Outcome(is_ready=False, error=failed.text)
                _report(function, outcome, "", begin, wait=wait)
                sent.append((function, outcome))
            else:
                sent.append((function, group.create_task(settle(package, revision, begin))))
    return [(f, o.result() if isinstance(o, asyncio.Task) else o) for f, o in sent]


def _report(function: StackFunction, outcome: Outcome, url: str, begin: float, *, wait: bool) -> None:
    name = function.name.short
    if outcome.error:
        typer.echo(f"{name}: failed: {outcome.error}", err=True)
        if outcome.serves_old:
            typer.echo(f"{name}: the earlier code still serves", err=True)
    elif wait:
        took = time.monotonic() - begin
        typer.echo(f"{name}: ready in {took:.2f} s (import {outcome.import_s:.2f} s)  {url}", err=True)
    else:
        typer.echo(f"{name}: deployed  {url}", err=True)
