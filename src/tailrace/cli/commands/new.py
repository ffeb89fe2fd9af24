"""``tailrace new``: a function's folder and its entry in the stack file."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Annotated

import typer

from tailrace.build.images import check_image
from tailrace.cli.options import AsJson
from tailrace.cli.result import Result, as_usage, finish
from tailrace.errors import AlreadyExists, InvalidDeployment, InvalidUsage
from tailrace.gateway_url import DEFAULT_GATEWAY, parse_gateway
from tailrace.names import is_function_label, nearest

_HEAD = "version: 1.0\nprovider:\n  name: openfaas\n  gateway: {gateway}\nfunctions:\n"
# What needs no quotes in YAML wherever it stands in a path.
_HANDLER = re.compile(r"[\w./@+-]+")


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The function's name: a-z, 0-9 and '-'.", show_default=False)
    ] = "",
    lang: Annotated[str, typer.Option("--lang", metavar="L", help="The template.")] = "python3-stream",
    append: Annotated[
        Path | None, typer.Option("--append", "-a", metavar="FILE", help="Add to this stack file.")
    ] = None,
    handler: Annotated[
        str, typer.Option("--handler", metavar="FOLDER", help="Where its code goes. Default: NAME.")
    ] = "",
    prefix: Annotated[
        str,
        typer.Option(
            "--prefix",
            "-p",
            envvar="OPENFAAS_PREFIX",
            show_envvar=False,
            metavar="PREFIX",
            help="What its image's name begins with. Default: $OPENFAAS_PREFIX.",
        ),
    ] = "",
    gateway: Annotated[
        str | None,
        typer.Option(
            "--gateway",
            "-g",
            metavar="URL",
            help=f"The gateway that a new stack file names. Default: {DEFAULT_GATEWAY}.",
        ),
    ] = None,
    list_templates: Annotated[
        bool, typer.Option("--list", help="List the templates instead, as `template list` does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a function: its folder, with what its template begins with, and stack.yaml.

    \b
    Templates:
      python3-stream         async generators; each yield is one event (the default)
      python3-flask          handle(req), anything Flask accepts     (-debian: the same here)
      python3-http           handle(event, context)                  (-debian: the same here)
      python3-asgi           an ASGI app: WebSocket, Starlette, FastAPI
      ./template/L           any that was pulled: tailrace template pull
    \b
    Examples:
      tailrace new hello
      tailrace new stream --lang python3-flask --append stack.yaml
    """
    if list_templates:
        from tailrace.cli.commands.template import listed

        finish(listed(), as_json=as_json)
    finish(
        make(name, lang, append, Path.cwd(), handler=handler, prefix=prefix, gateway=gateway), as_json=as_json
    )


def make(
    name: str,
    lang: str,
    append: Path | None,
    folder: Path,
    *,
    handler: str = "",
    prefix: str = "",
    gateway: str | None = None,
) -> Result:
    """Write the files below folder.

    Raises:
        InvalidUsage: the name or an option is not usable.
        InvalidDeployment: the template or the stack file is not usable.
        AlreadyExists: a file would be overwritten.
    """
    from tailrace.cli.appending import appended

    if not is_function_label(name):
        raise InvalidUsage(
            f"'{name}' is no function name" if name else "expected a function's name",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    home = _home(folder, handler or name)
    image = _image(prefix, name)
    head = _head(gateway, append)
    starter = _starter(lang, folder)
    shown = os.path.relpath(home, folder)
    if os.path.lexists(home):
        raise AlreadyExists(f"{shown}/ exists already", hint="Choose another name; nothing was written.")
    if append is None and (found := _existing(folder)):
        raise AlreadyExists(
            f"{found} exists already", hint=f"Add to it: tailrace new {name} --lang {lang} --append {found}"
        )
    stack_file = folder / (append or "stack.yaml")
    relative = os.path.relpath(home, stack_file.parent)
    relative = relative if relative.startswith("..") else f"./{relative}"
    entry = f"  {name}:\n    lang: {lang}\n    handler: {relative}\n    image: {image}\n"
    text = head + entry if append is None else appended(stack_file, name, entry)
    files = _copy_starter(starter, home)
    try:
        _check(text, stack_file, name)
        _write(text, stack_file)
    except BaseException:
        shutil.rmtree(home)
        raise
    return _made(name, [f"{shown}/{file}" for file in files], stack_file, append)


def _home(folder: Path, handler: str) -> Path:
    """Where the code goes. What is written into the stack file needs no quotes in YAML."""
    home = Path(os.path.normpath(folder / handler))
    if not _HANDLER.fullmatch(handler) or home == folder or not home.is_relative_to(folder):
        raise InvalidUsage(
            f"--handler '{handler}' is no folder inside the current one",
            hint="Write a relative path of letters, digits and . _ - + @ /, such as functions/hello.",
        )
    return home


def _image(prefix: str, name: str) -> str:
    image = f"{prefix.rstrip('/')}/{name}:latest" if prefix else f"{name}:latest"
    try:
        check_image(image)
    except InvalidDeployment as bad:
        raise InvalidUsage(f"--prefix: {bad.message}", hint=bad.hint) from None
    return image


def _head(gateway: str | None, append: Path | None) -> str:
    if gateway is not None and append is not None:
        raise InvalidUsage(
            f"--gateway is for a new stack file; {append} names its own",
            hint=f"Leave it out, or change provider.gateway in {append}.",
        )
    if gateway is not None:
        with as_usage():
            parse_gateway(gateway)
    return _HEAD.format(gateway=gateway or DEFAULT_GATEWAY)


def _write(text: str, stack_file: Path) -> None:
    """One that is there stays whole until the new one is: it is somebody's work. A link stays one."""
    from tailrace.state import write_atomically

    place = stack_file.resolve()
    if place.exists():
        write_atomically(place, text.encode(), mode=stat.S_IMODE(place.stat().st_mode))
    else:
        place.write_text(text, encoding="utf-8")


def _made(name: str, files: list[str], stack_file: Path, append: Path | None) -> Result:
    verb = f"added to {append}" if append else f"made {stack_file.name}"
    option = "" if append is None or append.name in ("stack.yaml", "stack.yml") else f" -f {append}"
    listed = f"{', '.join(files[:-1])} and {files[-1]}" if len(files) > 1 else "".join(files)
    data = {"name": name, "files": files, "stackFile": str(append or stack_file.name)}
    return Result(f"made {listed}, {verb}\nnext: tailrace up{option}", data)


def _starter(lang: str, folder: Path) -> Path:
    """What a function of this template begins with: the pulled template's, else ours."""
    from tailrace.build.templates import find_template, template_names
    from tailrace.cli.templates import is_template_name, pulled, read_pulled

    here = pulled(folder)
    if lang not in here and lang not in template_names():
        known = sorted({*here, *template_names()})
        near = nearest(lang, known)
        hint = f"Did you mean '{near}'?" if near else f"There are: {', '.join(known)}."
        pull = f" Or pull it: tailrace template store pull {lang}" if is_template_name(lang) else ""
        raise InvalidDeployment(f"there is no template '{lang}'", hint=f"{hint}{pull}")
    if lang not in here:
        return find_template(lang).path / "function"
    path = here[lang]
    inner = Path(os.path.normpath(path / (read_pulled(path).handler_folder or "function")))
    if not inner.is_relative_to(path) or not inner.is_dir():
        raise InvalidDeployment(f"template '{lang}' has no folder for its handler")
    return inner


def _copy_starter(source: Path, home: Path) -> list[str]:
    """Copy it; the files' names, sorted, the handler first."""
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(source, home, ignore=skipped)
    names = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    return sorted(names, key=lambda file: (not file.startswith("handler."), file))


def _existing(folder: Path) -> str | None:
    return next((n for n in ("stack.yaml", "stack.yml") if (folder / n).exists()), None)


def _check(text: str, path: Path, name: str) -> None:
    from tailrace.cli.stackfile import parse_stack

    stack = parse_stack(text, path, os.environ)
    if name not in [function.name.name for function in stack.functions]:
        raise InvalidDeployment(
            f"cannot add to {path.name} without disturbing it", hint="Add the function by hand, and run up."
        )
