"""``tailrace scale``: how many replicas a function has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, FunctionArgument, Gateway, Namespace
from tailrace.cli.result import Result, finish
from tailrace.options import MAX_REPLICAS

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    name: FunctionArgument,
    replicas: Annotated[int, typer.Argument(metavar="N", min=0, max=MAX_REPLICAS, help="So many replicas.")],
    gateway: Gateway = None,
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Give a function so many replicas; with 0 it sleeps until its next call.

    \b
    Examples:
      tailrace scale stream 3
      tailrace scale stream 0
    """
    from tailrace.cli.session import function_name, with_client

    function = function_name(name, namespace)

    async def use(client: Client) -> Result:
        await client.scale_function(function, replicas)
        text = f"{function.short} is to have {replicas} replica{'' if replicas == 1 else 's'}"
        return Result(text, {"name": function.short, "replicas": replicas})

    finish(with_client(gateway, use), as_json=as_json)
