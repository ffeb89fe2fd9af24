"""``tailrace diff``: what a stack file says and a gateway does not have, and the other way round."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Envsubst, Filter, GatewayOrStack, Regex, StackFile, Tag, TagMode
from tailrace.cli.result import FAILED, Result, error_for, finish, print_error
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from tailrace.cli.differences import Difference
    from tailrace.cli.stackfile import StackFunction
    from tailrace.client import Client

_TROUBLE = 2


def command(
    file: StackFile = None,
    gateway: GatewayOrStack = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    tag: Tag = TagMode.LATEST,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show what variables are set to; they may hold keys.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a stack file with what is deployed.

    The exit code is 0 when there is no difference, 1 when there is one, and 2 when that cannot be told, as
    diff(1) has it. Of variables it is only told that they are set, or differ.

    Code is not compared: `tailrace deploy` replaces a function only when its code or its settings changed.

    \b
    Examples:
      tailrace diff
      tailrace diff -f stack.yaml --json
    """
    try:
        result = _diff(file, gateway, filter, regex, tag, expand=envsubst, show_values=show_values)
    except (TailraceError, OSError, RuntimeError) as failed:
        told = error_for(failed)
        if told is None:
            raise
        print_error(told)
        raise SystemExit(_TROUBLE) from None
    finish(result, as_json=as_json)


def _diff(
    file: str | None,
    gateway: str | None,
    pattern: str | None,
    regex: str | None,
    tag: TagMode,
    *,
    expand: bool,
    show_values: bool,
) -> Result:
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.session import chosen_gateway, with_client
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=expand)
    selected = stack.select(pattern=pattern, regex=regex)
    functions = as_chosen(selected, tag=tag, builtin=True, folder=stack.path.parent)

    async def use(client: Client) -> Result:
        return await _compare(client, functions, stack.path.name, show_values=show_values)

    return with_client(chosen_gateway(gateway, stack.gateway), use)


async def _compare(
    client: Client, functions: tuple[StackFunction, ...], file: str, *, show_values: bool
) -> Result:
    from tailrace.cli.differences import differences, without_values
    from tailrace.cli.rollout import deployment_of
    from tailrace.errors import NotFound

    parts, data, is_same = [], [], True
    for function in functions:
        name = function.name.short
        try:
            deployed = await client.get_function(function.name)
        except NotFound:
            found, text = None, f"{name}: not deployed"
        else:
            found = differences(deployment_of(function), deployed)
            found = found if show_values else without_values(found)
            text = f"{name}\n{_table(found, file)}" if found else f"{name}: no difference"
        is_same = is_same and found == []
        parts.append(text)
        rows = [{"key": d.key, "wished": d.wished, "deployed": d.deployed} for d in found or ()]
        data.append({"name": name, "deployed": found is not None, "differences": rows})
    return Result("\n".join(parts), data, exit_code=0 if is_same else FAILED)


def _table(found: list[Difference], file: str) -> str:
    from tailrace.cli.columns import columns

    rows = [("  ", file, "deployed"), *((f"  {d.key}", d.wished or "-", d.deployed or "-") for d in found)]
    return columns(rows)
