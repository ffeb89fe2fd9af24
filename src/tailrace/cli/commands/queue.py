"""``tailrace queue``: what waits, and dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish
from tailrace.cli.usage import Command

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.wire.queue import DeadCall, QueueListing

app = typer.Typer(
    no_args_is_help=True, help="Asynchronous calls that wait, and those given up.", rich_markup_mode=None
)
_ERROR_WIDTH = 60
CallId = Annotated[str, typer.Argument(metavar="ID", help="The call's id: the X-Call-Id of the answer 202.")]


@app.command("list", short_help="List what waits, and dead letters.", cls=Command)
def list_(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List what waits, by queue and function, and dead letters, the oldest first.

    \b
    Examples:
      tailrace queue list
      tailrace queue list --json
    """
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        import msgspec

        listing = await client.get_queue()
        text = tables(listing)
        notes = () if text else ("nothing waits, and there are no dead letters",)
        return Result(text, msgspec.to_builtins(listing), notes)

    finish(with_client(gateway, use), as_json=as_json)


@app.command("show", short_help="Show a call's dead letters.", cls=Command)
def show(run: CallId, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show why a call, or the delivery of its result, was given up."""
    _finish(gateway, lambda client: client.get_dead(run), _described, as_json=as_json)


@app.command("retry", short_help="Have a dead letter tried again.", cls=Command)
def retry(run: CallId, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Have what was given up of a call tried again, from its first try on, under the same id."""
    _finish(
        gateway, lambda client: client.retry_dead(run), lambda found: _said(found, "waits again"),
        as_json=as_json,
    )  # fmt: skip


@app.command("drop", short_help="Forget a dead letter.", cls=Command)
def drop(run: CallId, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Forget what was given up of a call, and its body. Its run stays."""
    _finish(
        gateway, lambda client: client.drop_dead(run), lambda found: _said(found, "is forgotten"),
        as_json=as_json,
    )  # fmt: skip


@app.command("key", short_help="Print the secret that signs results.", cls=Command)
def key(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Print the secret that results are signed with: receivers check X-Tailrace-Signature by it."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        secret = (await client.get_callback_secret()).decode("latin-1")
        return Result(secret, {"secret": secret})

    finish(with_client(gateway, use), as_json=as_json)


def _finish(
    gateway: str | None,
    ask: Callable[[Client], Awaitable[list[DeadCall]]],
    tell: Callable[[list[DeadCall]], str],
    *,
    as_json: bool,
) -> None:
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        import msgspec

        found = await ask(client)
        return Result(tell(found), msgspec.to_builtins(found))

    finish(with_client(gateway, use), as_json=as_json)


def _said(found: list[DeadCall], what: str) -> str:
    words = {"call": "the call", "callback": "the delivery of its result"}
    return "\n".join(f"{one.id}: {words.get(one.kind, one.kind)} {what}" for one in found)


def _described(found: list[DeadCall]) -> str:
    return "\n\n".join(_describe(one) for one in found)


def _describe(letter: DeadCall) -> str:
    from tailrace.cli.columns import fields

    rows = [
        ("Call", letter.id),
        ("Given up", "the call" if letter.kind == "call" else "the delivery of its result"),
        ("Function", letter.function),
        ("Queue", letter.queue),
        ("Reason", letter.reason),
        ("Error", letter.error),
        ("Tries", str(letter.tries)),
        ("Accepted", letter.accepted_at or ""),
        ("Died", letter.died_at),
        ("Target", letter.target),
        ("Body", f"{letter.body_bytes} bytes" if letter.kind == "call" else ""),
        ("Callback", letter.callback_url),
    ]
    return "\n".join(fields(rows, width=11))


def _shorten(text: str) -> str:
    return text if len(text) <= _ERROR_WIDTH else text[: _ERROR_WIDTH - 3] + "..."


def tables(listing: QueueListing) -> str:
    """What `list` prints; empty when there is nothing."""
    from tailrace.cli.columns import columns

    waiting: list[tuple[str, ...]] = [("QUEUE", "FUNCTION", "WAITING", "HANDED OUT")]
    waiting += [(w.queue, w.function, str(w.waiting), str(w.handed_out)) for w in listing.waiting]
    dead: list[tuple[str, ...]] = [("DEAD LETTER", "KIND", "FUNCTION", "TRIES", "DIED", "ERROR")]
    dead += [
        (d.id, d.kind, d.function, str(d.tries), d.died_at[:19] + "Z", _shorten(d.error.split("\n")[0]))
        for d in listing.dead
    ]
    shown = [columns(table) for table in (waiting, dead) if len(table) > 1]
    if listing.results_waiting:
        shown.insert(len(waiting) > 1, f"results that wait to be delivered: {listing.results_waiting}")
    if listing.dead_total > len(listing.dead):
        shown.append(f"and {listing.dead_total - len(listing.dead)} more dead letters")
    return "\n\n".join(shown)
