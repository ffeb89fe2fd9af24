"""``tailrace secret``: create, update, list and remove secrets. Values go in and are never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway, Namespace
from tailrace.cli.result import Result, finish
from tailrace.cli.secretvalue import take_value
from tailrace.cli.terminal import plain
from tailrace.cli.usage import Command
from tailrace.errors import AlreadyExists, InvalidRequest, NotFound
from tailrace.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.wire.openfaas import Secret

app = typer.Typer(
    no_args_is_help=True, help="Create, update, list and remove secrets.", rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name: a-z, 0-9, '-' and '.'.")]


FromFile = Annotated[
    Path | None, typer.Option("--from-file", metavar="FILE", help="Read the value from a file.")
]
Trim = Annotated[bool, typer.Option(help="Drop white space around the value.")]


@app.command("create", short_help="Create a secret from a file or stdin.", cls=Command)
def create(
    name: Name,
    from_file: FromFile = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace one that exists.")] = False,
    trim: Trim = True,
    gateway: Gateway = None,
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Create a secret from a file or from stdin (so that the value is in no shell history).

    \b
    Examples:
      tailrace secret create openai-api-key --from-file key.txt
      pass openai | tailrace secret create openai-api-key
    """
    from tailrace.cli.session import with_client

    value = _given(from_file, trim=trim)

    async def use(client: Client) -> Result:
        if replace:
            await client.put_secret(name, value, namespace=namespace)
        else:
            await _create(client, name, value, namespace)
        data = {"name": name, "namespace": namespace or DEFAULT_NAMESPACE}
        return Result(f"{'stored' if replace else 'created'} {name}", data)

    finish(with_client(gateway, use), as_json=as_json)


@app.command("update", short_help="Give a secret another value.", cls=Command)
def update(
    name: Name,
    from_file: FromFile = None,
    trim: Trim = True,
    gateway: Gateway = None,
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Replace the value of a secret that is there; functions read the new one from then on.

    \b
    Examples:
      tailrace secret update openai-api-key --from-file key.txt
      pass openai | tailrace secret update openai-api-key
    """
    from tailrace.cli.session import with_client

    value = _given(from_file, trim=trim)

    async def use(client: Client) -> Result:
        try:
            await client.update_secret(name, value, namespace=namespace)
        except NotFound as missing:
            raise NotFound(missing.message, hint=f"Create it: tailrace secret create {name}") from None
        return Result(f"updated {name}", {"name": name, "namespace": namespace or DEFAULT_NAMESPACE})

    finish(with_client(gateway, use), as_json=as_json)


async def _create(client: Client, name: str, value: bytes, namespace: str) -> None:
    try:
        await client.create_secret(name, value, namespace=namespace)
    except AlreadyExists as there:
        raise AlreadyExists(there.message, hint="To give it this value, add --replace.") from None


@app.command("list", short_help="List the names of secrets.", cls=Command)
def list_(
    gateway: Gateway = None,
    namespace: Namespace = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the names.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the names of secrets and the functions that use them; values never come out."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        secrets = await client.list_secrets_used(namespace)
        text = "\n".join(plain(secret.name) for secret in secrets) if quiet else render(secrets)
        data = [{"name": s.name, "namespace": s.namespace, "functions": s.functions or []} for s in secrets]
        return Result(text, data)

    finish(with_client(gateway, use), as_json=as_json)


def render(secrets: list[Secret]) -> str:
    """The table that a person reads; a dash: no function is known to use it."""
    from tailrace.cli.columns import columns

    if not secrets:
        return ""
    rows = [("NAME", "USED BY"), *((s.name, ", ".join(s.functions or ()) or "-") for s in secrets)]
    return columns(rows)


@app.command("remove", cls=Command)
def remove(name: Name, gateway: Gateway = None, namespace: Namespace = "", as_json: AsJson = False) -> None:
    """Remove a secret that no function uses."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        await client.remove_secret(name, namespace=namespace)
        return Result(f"removed {name}", {"name": name, "namespace": namespace or DEFAULT_NAMESPACE})

    finish(with_client(gateway, use), as_json=as_json)


def _given(file: Path | None, *, trim: bool) -> bytes:
    """The value as it is to be kept. There is no option for it: it would show in the list of processes.

    Raises:
        InvalidRequest: it cannot be read, or is empty.
    """
    value = read_value(file, trim=trim)
    if not value:
        raise InvalidRequest("the secret's value is empty", hint="Give it by --from-file FILE or on stdin.")
    return value


def read_value(file: Path | None, *, trim: bool) -> bytes:
    """A secret's value from a file, from stdin, or typed without echo on a terminal.

    Raises:
        InvalidRequest: the file cannot be read, or the value is over 1 MiB.
    """
    from tailrace.cli.prompts import ask_hidden

    if file is None and sys.stdin.isatty():
        value = ask_hidden("Value").encode()
        return value.strip() if trim else value
    try:
        if file is None:
            return take_value(sys.stdin.buffer, trim=trim)
        with file.open("rb") as opened:
            return take_value(opened, trim=trim)
    except OSError as failed:
        raise InvalidRequest(f"cannot read {file}: {failed.strerror}") from failed
    except ValueError as wrong:
        raise InvalidRequest(f"the secret's value {wrong}") from None
