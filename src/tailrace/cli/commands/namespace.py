"""``tailrace namespace``: make, look at, change, list and remove namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish
from tailrace.cli.terminal import plain
from tailrace.cli.usage import Command
from tailrace.errors import InvalidUsage
from tailrace.names import is_function_label

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.wire.openfaas import FunctionNamespace

app = typer.Typer(
    no_args_is_help=True, help="Create, get, update, list and remove namespaces.", rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The namespace: a-z, 0-9 and '-'.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="K=V", help="A label; may be given often.")
]
Annotations = Annotated[
    list[str] | None, typer.Option("--annotation", metavar="K=V", help="An annotation; may be given often.")
]


@app.command("create", short_help="Create a namespace.", cls=Command)
def create(
    name: Name,
    label: Labels = None,
    annotation: Annotations = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
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
        return Result(f"created {name}", _data(await client.get_namespace(name)))

    finish(with_client(gateway, use), as_json=as_json)


@app.command("get", short_help="Show what is written about a namespace.", cls=Command)
def get(name: Name, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show a namespace's labels and annotations."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        from tailrace.cli.columns import fields, pairs

        found = await client.get_namespace(_checked(name))
        rows = (
            ("Name", found.name),
            ("Labels", pairs(found.labels) or "none"),
            ("Annotations", pairs(found.annotations) or "none"),
        )
        return Result("\n".join(fields(rows)), _data(found))

    finish(with_client(gateway, use), as_json=as_json)


@app.command("update", short_help="Replace what is written about a namespace.", cls=Command)
def update(
    name: Name,
    label: Labels = None,
    annotation: Annotations = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Replace all labels and annotations of a namespace by those that are given.

    \b
    Examples:
      tailrace namespace update staging --label team=search
    """
    from tailrace.cli.session import with_client

    labels, annotations = _pairs(label), _pairs(annotation)

    async def use(client: Client) -> Result:
        await client.update_namespace(_checked(name), labels, annotations)
        return Result(f"updated {name}", _data(await client.get_namespace(name)))

    finish(with_client(gateway, use), as_json=as_json)


@app.command("list", short_help="List the namespaces.", cls=Command)
def list_(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List the namespaces: those that were created, and those that hold something."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        names = await client.list_namespaces()
        return Result("\n".join(map(plain, names)), [{"name": name} for name in names])

    finish(with_client(gateway, use), as_json=as_json)


@app.command("remove", short_help="Remove an empty namespace.", cls=Command)
def remove(name: Name, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Remove a namespace that holds neither functions nor secrets."""
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        await client.remove_namespace(_checked(name))
        return Result(f"removed {name}", {"name": name})

    finish(with_client(gateway, use), as_json=as_json)


def _checked(name: str) -> str:
    if not is_function_label(name):
        raise InvalidUsage(
            f"'{name}' is no name of a namespace",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    return name


def _data(namespace: FunctionNamespace) -> dict[str, object]:
    labels, annotations = namespace.labels or {}, namespace.annotations or {}
    return {"name": namespace.name, "labels": labels, "annotations": annotations}


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in given or ()]
    wrong = [key for key, equals, _ in pairs if not key or not equals]
    if wrong:
        raise InvalidUsage(f"'{wrong[0]}' is no pair", hint="Write it as key=value.")
    return {key: value for key, _, value in pairs}
