"""``tailrace logs``: what a function wrote, and what it writes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import FunctionArgument, Gateway, Namespace
from tailrace.cli.result import Result, finish

if TYPE_CHECKING:
    from tailrace.cli.logview import Piece
    from tailrace.client import Client
    from tailrace.wire.openfaas import LogMessage


def command(
    name: FunctionArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "--lines", min=0, metavar="N", help="Only the last N.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", "--since-time", metavar="TIME", help="Only since: 5m, 1h30m, or RFC 3339."),
    ] = None,
    instance: Annotated[
        str, typer.Option("--instance", metavar="ID", help="Only this replica's, as `describe` names it.")
    ] = "",
    gateway: Gateway = None,
    namespace: Namespace = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print a function's log: its prints, its tracebacks, and what the platform says about it.

    Before a line stand its time and the first letters of its call's id, if it was written in a call; --json
    has the whole id, as the X-Call-Id header of the answer has it.

    \b
    Examples:
      tailrace logs stream --tail 20
      tailrace logs stream -f --since 5m
    """
    from tailrace.cli.session import function_name, with_client

    wanted = function_name(name, namespace)
    moment = since_moment(since) if since else ""

    async def use(client: Client) -> Result:
        import msgspec

        from tailrace.cli.logview import LogView
        from tailrace.cli.terminal import paint_for

        view = LogView(sys.stdout, paint_for(sys.stdout, os.environ))
        is_empty = True
        async for message in client.follow_logs(
            wanted, since=moment, tail=tail, instance=instance, is_following=follow
        ):
            is_empty = False
            if as_json:
                sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
                sys.stdout.flush()
            else:
                view.show(_piece(message))
        view.end_line()
        notes = (f"no lines of a replica '{instance}'; see: tailrace describe {wanted.short}",)
        return Result(notes=notes if instance and is_empty else ())

    finish(with_client(gateway, use))


def _piece(message: LogMessage) -> Piece:
    from tailrace.cli.logview import Piece
    from tailrace.client import SHORT_CALL_ID

    return Piece(
        message.timestamp[11:19],
        (message.instance, message.call_id, message.stream),
        message.text,
        message.instance == "tailrace",
        message.call_id[:SHORT_CALL_ID].ljust(SHORT_CALL_ID),
    )


def since_moment(text: str) -> str:
    """``5m`` ago, or an RFC 3339 time as it is, as RFC 3339.

    Raises:
        InvalidUsage: it is neither.
    """
    from datetime import UTC, datetime, timedelta

    from tailrace.durations import parse_duration
    from tailrace.errors import InvalidUsage

    seconds = parse_duration(text)
    try:
        if seconds is not None:
            return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.astimezone()).isoformat()
    except (ValueError, OverflowError):  # before the first year there is
        raise InvalidUsage(
            f"--since {text} is no time", hint="Write 30s, 5m, 1h30m, or 2026-01-31T12:00:00Z."
        ) from None
