"""``tailrace store``: functions that are ready made, from the gateway's own store or another one."""

from __future__ import annotations

import platform as machine
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli import changes
from tailrace.cli.options import AsJson, Gateway, Namespace, Wait
from tailrace.cli.result import Result, finish
from tailrace.cli.usage import Command
from tailrace.errors import InvalidUsage, NotFound
from tailrace.names import nearest

if TYPE_CHECKING:
    from tailrace.cli.stackfile import StackFunction
    from tailrace.client import Client
    from tailrace.wire.openfaas import StoreFunction

app = typer.Typer(no_args_is_help=True, help="List and deploy ready-made functions.", rich_markup_mode=None)
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_DESCRIPTION_WIDTH = 72

Name = Annotated[str, typer.Argument(metavar="NAME", help="The function's name in the store.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        envvar="OPENFAAS_STORE",
        show_envvar=False,
        metavar="URL",
        help="The store: an address or a file. Default: $OPENFAAS_STORE, else the gateway's own.",
    ),
]
Platform = Annotated[
    str,
    typer.Option("--platform", "-p", metavar="P", help="x86_64, arm64 or armhf. Default: this machine's."),
]


@app.command("list", short_help="List the functions of a store.", cls=Command)
def list_(
    url: Url = None,
    gateway: Gateway = None,
    platform: Platform = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Whole descriptions.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the functions of a store.

    A gateway's own store needs no registry and no network: its functions come with it.

    \b
    Examples:
      tailrace store list
      tailrace store list --url https://example.com/functions.json
    """
    import msgspec

    from tailrace.cli.columns import columns

    wanted = _platform(platform)
    found = [f for f in _read(url, gateway) if wanted in f.images]
    rows = [("FUNCTION", "AUTHOR", "DESCRIPTION")]
    rows += [(f.name, f.author or "unknown", _shown(f, verbose=verbose)) for f in found]
    finish(Result(columns(rows), msgspec.to_builtins(found)), as_json=as_json)


@app.command("describe", short_help="Show one function of a store.", cls=Command)
def describe(
    name: Name, url: Url = None, gateway: Gateway = None, platform: Platform = "", as_json: AsJson = False
) -> None:
    """Show what a store says about a function.

    \b
    Examples:
      tailrace store describe chat
    """
    import msgspec

    from tailrace.cli.columns import fields, pairs

    found = _find(name, url, gateway)
    rows = {
        "Name": found.name,
        "Title": found.title,
        "Author": found.author,
        "Description": found.description,
        "Image": found.images.get(_platform(platform), ""),
        "Process": found.fprocess,
        "Repository": found.repo_url,
        "Environment": pairs(found.environment),
        "Labels": pairs(found.labels),
        "Annotations": pairs(found.annotations),
    }
    finish(Result("\n".join(fields(rows.items())), msgspec.to_builtins(found)), as_json=as_json)


@app.command("deploy", short_help="Deploy a function of a store.", cls=Command)
def deploy(
    name: Name,
    url: Url = None,
    gateway: Gateway = None,
    platform: Platform = "",
    deployed_name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Another name for the function.")
    ] = "",
    namespace: Namespace = "",
    env: changes.Env = None,
    label: changes.Label = None,
    annotation: changes.Annotation = None,
    secret: changes.SecretNames = None,
    constraint: changes.Constraint = None,
    replace: changes.Replace = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Deploy a function of a store, and wait until it answers.

    \b
    Examples:
      tailrace store deploy env
      tailrace store deploy chat --name helper --secret openai-api-key
      tailrace store deploy chat --env OPENAI_BASE_URL=http://127.0.0.1:11434/v1 --env OPENAI_MODEL=llama3.2
    """
    from tailrace.cli.deploying import deploy_all
    from tailrace.cli.session import with_client

    wanted = _platform(platform)
    changed = changes.read_changes(
        env=env,
        label=label,
        annotation=annotation,
        secret=secret,
        constraint=constraint,
        namespace=namespace,
    )
    found = _find(name, url, gateway)
    function = changed.apply(_function(found, deployed_name or name, namespace, wanted))

    async def use(client: Client) -> Result:
        return await deploy_all(client, (function,), wait=wait, is_replacing=replace)

    finish(with_client(gateway, use), as_json=as_json)


def _function(found: StoreFunction, name: str, namespace: str, platform: str) -> StackFunction:
    from tailrace.cli.session import function_name
    from tailrace.cli.stackfile import StackFunction

    image = found.images.get(platform)
    if not image:
        has = ", ".join(sorted(found.images)) or "none"
        raise NotFound(f"'{found.name}' has no image for {platform}; it has: {has}")
    return StackFunction(
        name=function_name(name, namespace),
        image=image,
        fprocess=found.fprocess,
        env=found.environment or {},
        labels=found.labels or {},
        annotations=found.annotations or {},
        read_only_root_filesystem=found.read_only_root_filesystem,
    )


def _read(url: str | None, gateway: str | None) -> list[StoreFunction]:
    from tailrace.cli.documents import read_document
    from tailrace.gateway_url import DEFAULT_GATEWAY, parse_gateway
    from tailrace.wire.openfaas import Store

    own = f"{parse_gateway(gateway or DEFAULT_GATEWAY)[0]}/store/functions.json"
    return read_document(url or own, Store, "function store").functions


def _find(name: str, url: str | None, gateway: str | None) -> StoreFunction:
    found = {f.name: f for f in _read(url, gateway)}
    if name not in found:
        near = nearest(name, found)
        hint = f"Did you mean '{near}'?" if near else "See: tailrace store list"
        raise NotFound(f"the store has no function '{name}'", hint=hint)
    return found[name]


def _platform(given: str) -> str:
    platform = given or _MACHINES.get(machine.machine().lower(), "armhf")
    if platform not in ("x86_64", "arm64", "armhf"):
        raise InvalidUsage(f"--platform {given} is none of x86_64, arm64, armhf")
    return platform


def _shown(found: StoreFunction, *, verbose: bool) -> str:
    text = found.description or found.title
    first = text.partition(". ")[0]
    short = first if len(first) <= _DESCRIPTION_WIDTH else f"{first[: _DESCRIPTION_WIDTH - 3]}..."
    return text if verbose else short
