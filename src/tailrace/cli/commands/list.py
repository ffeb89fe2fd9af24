"""``tailrace list``: the functions that are deployed."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway, Namespace
from tailrace.cli.result import Result, finish
from tailrace.cli.terminal import plain

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.wire.openfaas import FunctionStatus

_NONE = ("no functions yet; make one: tailrace new hello --lang python3-stream",)


class SortBy(enum.StrEnum):
    """What the list is sorted by: names upwards, the others from the most down."""

    NAME = "name"
    INVOCATIONS = "invocations"
    CREATION = "creation"


def command(
    gateway: Gateway = None,
    namespace: Namespace = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the names.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also when each was deployed.")] = False,
    sort: Annotated[
        SortBy, typer.Option("--sort", help="By name, calls, or the newest first.")
    ] = SortBy.NAME,
    as_json: AsJson = False,
) -> None:
    """List the functions of a gateway.

    \b
    Examples:
      tailrace list
      tailrace list --sort invocations
      tailrace list --json
    """
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        functions = ordered(await client.list_functions(namespace), sort)
        import msgspec

        text = "\n".join(plain(f.name) for f in functions) if quiet else render(functions, verbose=verbose)
        return Result(
            text, msgspec.to_builtins(functions), notes=_NONE if not functions and not quiet else ()
        )

    finish(with_client(gateway, use), as_json=as_json)


def ordered(functions: list[FunctionStatus], by: SortBy) -> list[FunctionStatus]:
    """The functions in the order that is asked for; equal ones by name."""
    named = sorted(functions, key=lambda f: f.name)
    if by is SortBy.INVOCATIONS:
        return sorted(named, key=lambda f: -f.invocation_count)
    return named if by is SortBy.NAME else sorted(named, key=lambda f: f.created_at, reverse=True)


def render(functions: list[FunctionStatus], *, verbose: bool = False) -> str:
    """The table that a person reads; empty without functions."""
    from tailrace.cli.columns import columns

    if not functions:
        return ""
    rows = [("NAME", "STATE", "REPLICAS", "CALLS", "IMAGE", *(("DEPLOYED",) if verbose else ()))]
    for f in functions:
        state = f.tailrace.state if f.tailrace else ("ready" if f.available_replicas else "not ready")
        row = (f.name, state, f"{f.available_replicas}/{f.replicas}", f"{f.invocation_count:.0f}", f.image)
        rows.append((*row, *((f.created_at,) if verbose else ())))
    return columns(rows)
