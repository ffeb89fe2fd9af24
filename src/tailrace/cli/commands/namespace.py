"""``tailrace namespace``: make, list and remove namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish
from tailrace.cli.usage import Command
from tailrace.errors import InvalidRequest
from tailrace.names import is_function_label

if TYPE_CHECKING:
    from tailrace.client import Client

app = typer.Typer(no_args_is_help=True, help="Create, list and remove namespaces.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The namespace: a-z, 0-9 and '-'.")]
Pairs = list[str] | None


@app.command("create", short_help="Create a namespace.", cls=Command)
def create(
    name: Name,
    label: Annotated[
        Pairs, typer.Option("--label", metavar="K=V", help="A label; may be given often.")
    ] = None,
    annotation: Annotated[
        Pairs, typer.Option("--annotation", metavar="K=V", help="An annotation; may be given often.")
    ] = None,
    gateway: Gateway = None,
) -> None:
    """Create a namespace, so that it is listed before anything is in it.

    \b
    Examples:
      tailrace namespace create staging --label team=chat
    """
    from tailrace.cli.session import with_client

    labels, annotations = _pairs(label), _pairs(annotation)

    async def use(client: Client) -> Result:
        await client.create_namespace(_checked(name), labels, annotations)
        return Result(f"created {name}")

    finish(with_client(gateway, use))


@app.command("list", short_help="List the namespaces.", cls=Command)
def list_(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List the namespaces: those that were created, and those that hold something."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        names = await client.list_namespaces()
        return Result("\n".join(names), [{"name": name} for name in names])

    finish(with_client(gateway, use), as_json=as_json)


@app.command("remove", short_help="Remove an empty namespace.", cls=Command)
def remove(name: Name, gateway: Gateway = None) -> None:
    """Remove a namespace that holds neither functions nor secrets."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        await client.remove_namespace(_checked(name))
        return Result(f"removed {name}")

    finish(with_client(gateway, use))


def _checked(name: str) -> str:
    if not is_function_label(name):
        raise InvalidRequest(
            f"'{name}' is no name of a namespace",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    return name


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in given or ()]
    wrong = [key for key, equals, _ in pairs if not key or not equals]
    if wrong:
        raise InvalidRequest(f"'{wrong[0]}' is no pair", hint="Write it as key=value.")
    return {key: value for key, _, value in pairs}
