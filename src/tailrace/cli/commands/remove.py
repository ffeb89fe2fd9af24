"""``tailrace remove``: stop functions and forget them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import Gateway, Namespace, StackFile
from tailrace.cli.result import Result, finish
from tailrace.errors import InvalidRequest
from tailrace.names import FunctionName

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="The functions.")] = None,
    file: StackFile = None,
    gateway: Gateway = None,
    namespace: Namespace = "",
) -> None:
    """Remove functions from a gateway, by name or all of a stack file.

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
        for name in wanted:
            await client.remove_function(name)
        return Result("\n".join(f"removed {name.short}" for name in wanted))

    finish(with_client(gateway, use))


def _of_stack(file: str) -> list[FunctionName]:
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ)
    return [function.name for function in stack.functions]
