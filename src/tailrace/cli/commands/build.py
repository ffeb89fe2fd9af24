"""``tailrace build`` and ``publish``: the stack file's functions as images on a gateway, without Docker."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import (
    AsJson,
    Builtin,
    Envsubst,
    Filter,
    GatewayOrStack,
    Regex,
    StackFile,
    Tag,
    TagMode,
)
from tailrace.cli.result import FAILED, Result, finish, print_error, print_note
from tailrace.cli.terminal import plain
from tailrace.errors import InvalidRequest, InvalidUsage, TailraceError

if TYPE_CHECKING:
    from tailrace.cli.stackfile import StackFunction
    from tailrace.client import Client

FOLDER = "build"

_BuildArgs = Annotated[
    list[str] | None,
    typer.Option("--build-arg", "-b", metavar="NAME=VALUE", help="A build argument. Give it again for more."),
]
_BuildOptions = Annotated[
    list[str] | None,
    typer.Option("--build-option", "-o", metavar="NAME", help="A build option of the template."),
]
_NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Accepted, as nothing is cached that could be old.")
]


def command(
    file: StackFile = None,
    gateway: GatewayOrStack = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    tag: Tag = TagMode.LATEST,
    build_arg: _BuildArgs = None,
    build_option: _BuildOptions = None,
    builtin: Builtin = True,
    no_cache: _NoCache = False,  # noqa: ARG001  # see its help
    shrinkwrap: Annotated[
        bool, typer.Option("--shrinkwrap", help="Only write the build contexts to ./build/NAME.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pack the functions of a stack file and put them onto a gateway, as the images that it deploys.

    There is no registry: the gateway keeps what is built. `tailrace deploy` does this too.

    \b
    Examples:
      tailrace build
      tailrace build -f stack.yaml --filter hello --tag sha
      tailrace build --shrinkwrap     write ./build/NAME, for a builder elsewhere
    """
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.session import chosen_gateway, with_client
    from tailrace.cli.stackfile import find_stack_file, load_stack

    stack = load_stack(find_stack_file(file, Path.cwd()), os.environ, expand=envsubst)
    selected = stack.select(pattern=filter, regex=regex)
    for note in stack.notes_on(selected):
        print_note(note)
    arguments = dict(map(_pair, build_arg or ()))
    functions = tuple(
        replace(
            function,
            build_args={**function.build_args, **arguments},
            build_options=(*function.build_options, *(build_option or ())),
        )
        for function in as_chosen(selected, tag=tag, builtin=builtin, folder=stack.path.parent)
        if function.handler is not None
    )
    if shrinkwrap:
        finish(_shrinkwrap(functions), as_json=as_json)

    async def use(client: Client) -> Result:
        return await _build(client, functions)

    finish(with_client(chosen_gateway(gateway, stack.gateway), use), as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidUsage(f"--build-arg '{text}' is not of the form NAME=VALUE")
    return name, value


def _shrinkwrap(functions: tuple[StackFunction, ...]) -> Result:
    import shutil

    from tailrace.cli.packing import write_context

    lines, data = [], []
    for function in functions:
        name = function.name.name
        for place in (Path(FOLDER), Path(FOLDER, name)):
            if place.is_symlink():
                raise InvalidRequest(f"./{place} is a link; nothing is written through it")
        shutil.rmtree(Path(FOLDER, name), ignore_errors=True)
        write_context(function, Path(FOLDER, name))
        lines.append(f"{name} shrink-wrapped to {FOLDER}/{name}")
        data.append({"name": name, "folder": f"{FOLDER}/{name}"})
    return Result("\n".join(lines), data)


async def _build(client: Client, functions: tuple[StackFunction, ...]) -> Result:
    lines, data, failed = [], [], False
    for function in functions:
        try:
            digest, took_s = await _build_one(client, function)
        except TailraceError as error:
            if len(functions) == 1:
                raise
            print_error(error)
            failed = True
            data.append({"name": function.name.short, "image": function.image, "error": error.text})
            continue
        lines.append(f"{function.name.short}: {plain(function.image)} is sha256:{digest}, {took_s:.2f} s")
        data.append({"name": function.name.short, "image": function.image, "digest": digest, "error": ""})
    return Result("\n".join(lines), data, exit_code=FAILED if failed else 0)


async def _build_one(client: Client, function: StackFunction) -> tuple[str, float]:
    import asyncio

    from tailrace.cli.packing import pack_code
    from tailrace.cli.rollout import named_after
    from tailrace.settings import MIB

    began = time.monotonic()
    try:
        bundle, notes = await asyncio.to_thread(pack_code, function, limit_bytes=64 * MIB)
    except TailraceError as failed:
        raise named_after(failed, function) from failed
    for note in notes:
        print_note(f"{function.name.short}: {note}")
    await client.upload_bundle(bundle.digest, function.image, bundle.data)
    return bundle.digest, time.monotonic() - began
