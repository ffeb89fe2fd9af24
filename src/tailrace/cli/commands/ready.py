"""``tailrace ready``: wait until a gateway, or a function, answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway, Namespace
from tailrace.cli.result import FAILED, Result, finish, print_error
from tailrace.errors import InvalidUsage, NotFound, PlatformError, TailraceError

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.names import FunctionName


def command(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="The function; without it the gateway is waited for.")
    ] = "",
    attempts: Annotated[int, typer.Option("--attempts", min=1, metavar="N", help="How often to ask.")] = 60,
    interval: Annotated[str, typer.Option("--interval", metavar="TIME", help="Time between two.")] = "1s",
    gateway: Gateway = None,
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Wait until a gateway answers, or until a function has a replica that is ready.

    \b
    Examples:
      tailrace ready
      tailrace ready stream --attempts 120 --interval 500ms
    """
    from tailrace.cli.session import function_name, with_client
    from tailrace.durations import parse_duration

    pause_s = parse_duration(interval)
    if pause_s is None or pause_s <= 0:
        raise InvalidUsage(f"--interval {interval} is no time", hint="Write 500ms, 1s or 1m.")
    wanted = function_name(name, namespace) if name else None

    async def use(client: Client) -> Result:
        return await _wait(client, wanted, attempts, pause_s)

    finish(with_client(gateway, use), as_json=as_json)


async def _wait(client: Client, name: FunctionName | None, attempts: int, pause_s: float) -> Result:
    import asyncio

    what = f"function '{name.short}'" if name else f"the gateway at {client.url}"
    reason: TailraceError | None = None
    for attempt in range(1, attempts + 1):
        try:
            is_ready = await _is_ready(client, name)
        except (PlatformError, NotFound) as missing:  # also a proxy's 502, while the gateway starts
            is_ready, reason = False, missing
        if is_ready:
            return Result(f"{what} is ready", {"ready": True, "attempts": attempt})
        if attempt < attempts:
            await asyncio.sleep(pause_s)
    why = f": {reason.message}" if reason else ""
    print_error(NotFound(f"{what} is not ready after {attempts} attempts{why}"))
    return Result("", {"ready": False, "attempts": attempts}, exit_code=FAILED)


async def _is_ready(client: Client, name: FunctionName | None) -> bool:
    if name is None:
        return await client.is_healthy()
    return (await client.get_function(name)).available_replicas > 0
