"""``tailrace remove``: stop functions and forget them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Envsubst, Filter, GatewayOrStack, Namespace, Regex
from tailrace.cli.result import FAILED, Result, finish, print_error
from tailrace.errors import InvalidUsage, NotFound
from tailrace.names import FunctionName

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="The functions.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="Remove all functions of a stack file.")
    ] = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    gateway: GatewayOrStack = None,
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Remove functions from a gateway: the ones named, or with -f all of a stack file.

    One that is not deployed is told, the others are removed, and the exit code is 1.

    \b
    Examples:
      tailrace remove stream
      tailrace remove -f stack.yaml --filter 'web-*'
    """
    from tailrace.cli.session import chosen_gateway, function_name, with_client

    wanted = [function_name(name, namespace) for name in names or ()]
    if bool(wanted) == bool(file):
        raise InvalidUsage("expected names, or a stack file", hint="tailrace remove NAME, or -f stack.yaml")
    of_stack = ""
    if file:
        wanted, of_stack = _of_stack(file, filter, regex, expand=envsubst)

    async def use(client: Client) -> Result:
        removed = {name.short: await _remove(client, name, quiet=as_json) for name in wanted}
        data = [{"name": name, "removed": is_removed} for name, is_removed in removed.items()]
        return Result("", data, exit_code=0 if all(removed.values()) else FAILED)

    finish(with_client(chosen_gateway(gateway, of_stack), use), as_json=as_json)


async def _remove(client: Client, name: FunctionName, *, quiet: bool) -> bool:
    """Remove it and say so at once: a later failure hides nothing. False when it is not there."""
    try:
        await client.remove_function(name)
    except NotFound as missing:
        print_error(NotFound(missing.message or f"function '{name.short}' is not deployed"))
        return False
    if not quiet:
        typer.echo(f"removed {name.short}")
    return True


def _of_stack(
    file: str, pattern: str | None, regex: str | None, *, expand: bool
) -> tuple[list[FunctionName], str]:
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=expand)
    return [function.name for function in stack.matching(pattern=pattern, regex=regex)], stack.gateway
