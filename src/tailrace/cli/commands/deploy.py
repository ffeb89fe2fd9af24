"""``tailrace deploy``: the stack file's functions, or one image, onto a gateway that is running."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli import changes
from tailrace.cli.options import (
    AsJson,
    Builtin,
    Envsubst,
    Filter,
    GatewayOrStack,
    Namespace,
    Regex,
    StackFile,
    Tag,
    TagMode,
    Wait,
)
from tailrace.cli.result import Result, finish, print_note
from tailrace.errors import InvalidUsage

if TYPE_CHECKING:
    from tailrace.cli.stackfile import StackFunction
    from tailrace.client import Client


def command(
    file: StackFile = None,
    gateway: GatewayOrStack = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    tag: Tag = TagMode.LATEST,
    builtin: Builtin = True,
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="Deploy this image instead of a stack file.")
    ] = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its name, with --image.")] = "",
    namespace: Namespace = "",
    env: changes.Env = None,
    label: changes.Label = None,
    annotation: changes.Annotation = None,
    secret: changes.SecretNames = None,
    constraint: changes.Constraint = None,
    fprocess: Annotated[
        str, typer.Option("--fprocess", metavar="COMMAND", help="What runs under the watchdog.")
    ] = "",
    memory_limit: Annotated[str, typer.Option(help="Such as 128Mi; kept and shown.")] = "",
    cpu_limit: Annotated[str, typer.Option(help="Such as 500m; kept and shown.")] = "",
    memory_request: Annotated[str, typer.Option(help="Such as 64Mi; kept and shown.")] = "",
    cpu_request: Annotated[str, typer.Option(help="Such as 50m; kept and shown.")] = "",
    readonly: Annotated[bool, typer.Option("--readonly", help="Kept and shown.")] = False,
    replace: changes.Replace = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Pack, upload and deploy the functions of a stack file, and wait until they answer.

    With --image and --name one function is deployed from an image that the gateway has. The options for
    variables, labels and so on are added to what the stack file says.

    \b
    Examples:
      tailrace deploy
      tailrace deploy -f stack.yaml --filter 'web-*' --gateway https://fn.example.com
      tailrace deploy --image lab/hello:1.2 --name hello --env LEVEL=debug -n staging
    """
    from tailrace.cli.deploying import deploy_all
    from tailrace.cli.session import chosen_gateway, with_client

    changed = changes.read_changes(
        env=env,
        label=label,
        annotation=annotation,
        secret=secret,
        constraint=constraint,
        namespace=namespace,
        fprocess=fprocess,
        limits=changes.resources(memory_limit, cpu_limit),
        requests=changes.resources(memory_request, cpu_request),
        read_only=readonly,
    )
    of_stack = ""
    if image or name:
        functions: tuple[StackFunction, ...] = (_of_image(image, name, namespace, file),)
    else:
        functions, of_stack = _of_stack(file, filter, regex, tag, expand=envsubst, builtin=builtin)
    functions = tuple(changed.apply(function) for function in functions)

    async def use(client: Client) -> Result:
        return await deploy_all(client, functions, wait=wait, is_replacing=replace)

    finish(with_client(chosen_gateway(gateway, of_stack), use), as_json=as_json)


def _of_image(image: str, name: str, namespace: str, file: str | None) -> StackFunction:
    from tailrace.cli.session import function_name
    from tailrace.cli.stackfile import StackFunction

    if file:
        raise InvalidUsage("--image and --name, or --file: not both", hint="A stack file names its images.")
    if not image or not name:
        raise InvalidUsage(
            "expected --image with --name, or a stack file",
            hint="tailrace deploy --image IMAGE --name NAME, or: tailrace deploy -f stack.yaml",
        )
    return StackFunction(name=function_name(name, namespace), image=image)


def _of_stack(
    file: str | None, pattern: str | None, regex: str | None, tag: TagMode, *, expand: bool, builtin: bool
) -> tuple[tuple[StackFunction, ...], str]:
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=expand)
    chosen = stack.select(pattern=pattern, regex=regex)
    functions = as_chosen(chosen, tag=tag, builtin=builtin, folder=stack.path.parent)
    for note in stack.notes_on(functions):
        print_note(note)
    return functions, stack.gateway
