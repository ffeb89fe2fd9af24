"""``tailrace list``: the functions that are deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway, Namespace
from tailrace.cli.result import Result, finish

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.wire.openfaas import FunctionStatus


def command(
    gateway: Gateway = None,
    namespace: Namespace = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the names.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the functions of a gateway.

    \b
    Examples:
      tailrace list
      tailrace list --json
    """
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        functions = sorted(await client.list_functions(namespace), key=lambda f: f.name)
        import msgspec

        text = "\n".join(f.name for f in functions) if quiet else render(functions)
        return Result(text, msgspec.to_builtins(functions))

    finish(with_client(gateway, use), as_json=as_json)


def render(functions: list[FunctionStatus]) -> str:
    """The table that a person reads."""
    if not functions:
        return "no functions yet; make one: tailrace new hello --lang python3-stream"
    rows = [("NAME", "STATE", "REPLICAS", "CALLS", "IMAGE")]
    for f in functions:
        state = f.tailrace.state if f.tailrace else ("ready" if f.available_replicas else "not ready")
        rows.append(
            (f.name, state, f"{f.available_replicas}/{f.replicas}", f"{f.invocation_count:.0f}", f.image)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
