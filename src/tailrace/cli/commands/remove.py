"""``tailrace remove``: stop functions and forget them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import Gateway, Namespace
from tailrace.cli.result import FAILED, Result, finish, print_error
from tailrace.errors import InvalidRequest, NotFound
from tailrace.names import FunctionName

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="The functions.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="Remove all functions of a stack file.")
    ] = None,
    gateway: Gateway = None,
    namespace: Namespace = "",
) -> None:
    """Remove functions from a gateway: the ones named, or with -f all of a stack file.

    One that is not deployed is told, the others are removed, and the exit code is 1.

    \b
    Examples:
      tailrace remove stream
      tailrace remove -f stack.yaml
    """
    from tailrace.cli.session import function_name, with_client

    wanted = [function_name(name, namespace) for name in names or ()]
    if bool(wanted) == bool(file):
        raise InvalidRequest("expected names, or a stack file", hint="tailrace remove NAME, or -f stack.yaml")
    if file:
        wanted = _of_stack(file)

    async def use(client: Client) -> Result:
        missing = [name for name in wanted if not await _remove(client, name)]
        return Result(exit_code=FAILED if missing else 0)

    finish(with_client(gateway, use))


async def _remove(client: Client, name: FunctionName) -> bool:
    """Remove it and say so at once: a later failure hides nothing. False when it is not there."""
    try:
        await client.remove_function(name)
    except NotFound as missing:
        print_error(NotFound(missing.message or f"function '{name.short}' is not deployed"))
        return False
    typer.echo(f"removed {name.short}")
    return True


def _of_stack(file: str) -> list[FunctionName]:
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ)
    return [function.name for function in stack.functions]
