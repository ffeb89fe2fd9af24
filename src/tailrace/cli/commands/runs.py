"""``tailrace runs``: list, show, watch and stop runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish
from tailrace.cli.usage import Command
from tailrace.errors import ReplicaFailed

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.client.runs import Attached
    from tailrace.wire.runs import RunRecord

app = typer.Typer(no_args_is_help=True, help="List, show, watch and stop runs.", rich_markup_mode=None)
# How often, and how far apart, it is looked whether a run whose answer ended is over.
_LOOKS = 40
_LOOK_S = 0.05
RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id: the X-Call-Id of its answer.")]


@app.command("list", short_help="List runs, the one that changed last first.", cls=Command)
def list_(
    gateway: Gateway = None,
    function: Annotated[str, typer.Option("--function", metavar="NAME", help="Only this function's.")] = "",
    state: Annotated[
        str,
        typer.Option(
            "--state", metavar="STATE", help="queued, starting, streaming, done, failed or cancelled."
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, the one that changed last first.

    \b
    Examples:
      tailrace runs list --state streaming
      tailrace runs list --function chat --json
    """
    from tailrace.cli.session import function_name, with_client

    name = function_name(function) if function else None

    async def use(client: Client) -> Result:
        import msgspec

        page = await client.list_runs(function=name, state=state, limit=limit)
        notes = () if page.runs else ("no runs; record a call: curl -H 'X-Tailrace-Record: 1' ...",)
        return Result(_table(page.runs), msgspec.to_builtins(page.runs), notes)

    finish(with_client(gateway, use), as_json=as_json)


@app.command("show", short_help="Show one run.", cls=Command)
def show(run: RunId, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show what is known of one run."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        return _result(await client.get_run(run))

    finish(with_client(gateway, use), as_json=as_json)


@app.command("stop", short_help="Stop a run.", cls=Command)
def stop(run: RunId, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Stop a run, wherever it goes on. One that is over stays as it is."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        return _result(await client.stop_run(run))

    finish(with_client(gateway, use), as_json=as_json)


@app.command("attach", short_help="Print a run's answer as it comes.", cls=Command)
def attach(
    run: RunId,
    gateway: Gateway = None,
    after: Annotated[
        int, typer.Option("--after", min=0, metavar="NUMBER", help="Begin after this event.")
    ] = 0,
    is_raw: Annotated[bool, typer.Option("--raw", help="Print event streams as they are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as JSON, one a line.")] = False,
) -> None:
    """Print a run's answer from its start, and what comes until its end. Leaving does not stop it.

    Of an event stream the data of each event is printed, tokens as running text, as `tailrace invoke` does.
    The exit code is 1 when the run failed or was cancelled.

    \b
    Examples:
      tailrace runs attach gxdqlvpa2a6vbmvg5ujmrcyijq
      tailrace runs attach gxdqlvpa2a6vbmvg5ujmrcyijq --after 40 --json
    """
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        async with client.attach(run, after=after, form="ndjson" if as_json else "") as attached:
            told = await _print(attached, is_raw=is_raw or as_json)
        await _check_end(client, run)
        if told:
            raise ReplicaFailed(f"the run failed: {told}")
        return Result()

    finish(with_client(gateway, use))


async def _print(attached: Attached, *, is_raw: bool) -> str:
    """Print the answer; what its stream said went wrong, or nothing."""
    from tailrace.cli.answer import Answer
    from tailrace.wire.sse import EventTooLarge

    kind = "" if is_raw else attached.content_type
    answer = Answer(kind, is_native=attached.is_native and not is_raw, as_json=False)
    try:
        async for chunk in attached.chunks():
            _write(answer.take(chunk))
    except EventTooLarge as too_large:
        raise ReplicaFailed(f"the answer cannot be read: {too_large}", hint="See it with --raw.") from None
    finally:
        _write(answer.end())
    return answer.error


async def _check_end(client: Client, run: str) -> None:
    """Fail as the run did. Its record may be written a moment after the last of its answer was sent."""
    import asyncio

    for _ in range(_LOOKS):
        record = await client.get_run(run)
        if record.state in ("failed", "cancelled"):
            words = "failed" if record.state == "failed" else "was cancelled"
            raise ReplicaFailed(f"the run {words}: {record.error or record.end_reason}")
        if record.state == "done":
            return
        await asyncio.sleep(_LOOK_S)


def _write(data: bytes) -> None:
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _result(record: RunRecord) -> Result:
    import msgspec

    return Result(_describe(record), msgspec.to_builtins(record))


def _describe(record: RunRecord) -> str:
    from tailrace.cli.columns import fields

    usage = record.usage
    tokens = ""
    if usage is not None:
        into = f"{usage.input_tokens} in, " if usage.input_tokens is not None else ""
        tokens = f"{into}{usage.output_tokens} out" + (" (estimated)" if usage.estimated else "")
    reason = f" ({record.end_reason})" if record.end_reason not in ("", record.state) else ""
    rows = [
        ("Run", record.id),
        ("Function", record.function),
        ("State", record.state + reason),
        ("Error", record.error),
        ("Created", record.created_at),
        ("Started", record.started_at or ""),
        ("First content", record.first_content_at or ""),
        ("Ended", record.ended_at or ""),
        ("Attempts", str(record.attempts) if record.attempts > 1 else ""),
        ("Answer", f"{record.bytes} bytes, {record.events} events recorded"),
        ("Tokens", tokens),
        ("Recorded", _recorded(record)),
    ]
    return "\n".join(fields(rows, width=15))


def _recorded(record: RunRecord) -> str:
    if record.unrecorded:
        return f"not all: {record.unrecorded}"
    if record.truncated:
        return "only the beginning: it was longer than what is recorded of a run"
    return "its events are no longer kept" if record.expired else ""


def _table(records: list[RunRecord]) -> str:
    from tailrace.cli.columns import columns

    if not records:
        return ""
    rows = [("RUN", "FUNCTION", "STATE", "CREATED", "EVENTS", "BYTES")]
    rows += [
        (r.id, r.function, r.state, r.created_at[:19] + "Z", str(r.events), str(r.bytes)) for r in records
    ]
    return columns(rows)
