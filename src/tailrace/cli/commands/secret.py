"""``tailrace secret``: create, list and remove secrets. Values are read from files or stdin, never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway, Namespace
from tailrace.cli.result import Result, finish
from tailrace.cli.usage import Command
from tailrace.errors import AlreadyExists, InvalidRequest

if TYPE_CHECKING:
    from tailrace.client import Client

# As Kubernetes has it, so that a secret that works here works there.
LIMIT_BYTES = 1024 * 1024

app = typer.Typer(no_args_is_help=True, help="Create, list and remove secrets.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name: a-z, 0-9, '-' and '.'.")]


@app.command("create", short_help="Create a secret from a file or stdin.", cls=Command)
def create(
    name: Name,
    from_file: Annotated[
        Path | None, typer.Option("--from-file", metavar="FILE", help="Read the value from a file.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace one that exists.")] = False,
    trim: Annotated[bool, typer.Option(help="Drop white space around the value.")] = True,
    gateway: Gateway = None,
    namespace: Namespace = "",
) -> None:
    """Create a secret from a file or from stdin (so that the value is in no shell history).

    \b
    Examples:
      tailrace secret create openai-api-key --from-file key.txt
      pass openai | tailrace secret create openai-api-key
    """
    from tailrace.cli.session import with_client

    value = read_value(from_file)
    value = value.strip() if trim else value
    if not value:
        raise InvalidRequest("the secret's value is empty", hint="Give it by --from-file FILE or on stdin.")

    async def use(client: Client) -> Result:
        if replace:
            await client.put_secret(name, value, namespace=namespace)
        else:
            await _create(client, name, value, namespace)
        return Result(f"{'stored' if replace else 'created'} {name}")

    finish(with_client(gateway, use))


async def _create(client: Client, name: str, value: bytes, namespace: str) -> None:
    try:
        await client.create_secret(name, value, namespace=namespace)
    except AlreadyExists as there:
        raise AlreadyExists(there.message, hint="To give it this value, add --replace.") from None


@app.command("list", short_help="List the names of secrets.", cls=Command)
def list_(gateway: Gateway = None, namespace: Namespace = "", as_json: AsJson = False) -> None:
    """List the names of secrets; values never come out."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        names = await client.list_secrets(namespace)
        return Result("\n".join(names), [{"name": name} for name in names])

    finish(with_client(gateway, use), as_json=as_json)


@app.command("remove", cls=Command)
def remove(name: Name, gateway: Gateway = None, namespace: Namespace = "") -> None:
    """Remove a secret that no function uses."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        await client.remove_secret(name, namespace=namespace)
        return Result(f"removed {name}")

    finish(with_client(gateway, use))


def read_value(file: Path | None) -> bytes:
    """A secret's value from a file, from stdin, or typed without echo on a terminal.

    Raises:
        InvalidRequest: the file cannot be read, or the value is over 1 MiB.
    """
    if file is None and sys.stdin.isatty():
        return str(typer.prompt("Value", hide_input=True, err=True)).encode()
    try:
        if file is None:
            value = sys.stdin.buffer.read(LIMIT_BYTES + 1)
        else:
            with file.open("rb") as opened:
                value = opened.read(LIMIT_BYTES + 1)
    except OSError as failed:
        raise InvalidRequest(f"cannot read {file}: {failed.strerror}") from failed
    if len(value) > LIMIT_BYTES:
        raise InvalidRequest("the secret's value is larger than 1 MiB")
    return value
