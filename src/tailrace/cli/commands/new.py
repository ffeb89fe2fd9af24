"""``tailrace new``: a function's folder and its entry in the stack file."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from tailrace.cli.options import AsJson
from tailrace.cli.result import Result, finish
from tailrace.errors import AlreadyExists, InvalidDeployment, InvalidUsage
from tailrace.gateway_url import DEFAULT_GATEWAY
from tailrace.names import is_function_label

_HEAD = "version: 1.0\nprovider:\n  name: openfaas\n  gateway: {gateway}\nfunctions:\n"


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
        str, typer.Option("--gateway", "-g", metavar="URL", help="The gateway that a new stack file names.")
    ] = DEFAULT_GATEWAY,
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
    gateway: str = DEFAULT_GATEWAY,
) -> Result:
    """Write the files below folder.

    Raises:
        InvalidUsage: the name or an option is not usable.
        InvalidDeployment: the template or the stack file is not usable.
        AlreadyExists: a file would be overwritten.
    """
    if not is_function_label(name):
        raise InvalidUsage(
            f"'{name}' is no function name" if name else "expected a function's name",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    starter = _starter(lang, folder)
    home = folder / (handler or name)
    shown = os.path.relpath(home, folder)
    if home.exists():
        raise AlreadyExists(f"{shown}/ exists already", hint="Choose another name; nothing was written.")
    if append is None and (found := _existing(folder)):
        raise AlreadyExists(
            f"{found} exists already", hint=f"Add to it: tailrace new {name} --lang {lang} --append {found}"
        )
    stack_file = folder / (append or "stack.yaml")
    relative = os.path.relpath(home, stack_file.parent)
    relative = relative if relative.startswith("..") else f"./{relative}"
    image = f"{prefix.rstrip('/')}/{name}" if prefix else name
    entry = f"  {name}:\n    lang: {lang}\n    handler: {relative}\n    image: {image}:latest\n"
    head = _HEAD.format(gateway=gateway)
    text = head + entry if append is None else _appended(stack_file, name, entry)
    files = _copy_starter(starter, home)
    try:
        _check(text, stack_file, name)
        stack_file.write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(home)
        raise
    return _made(name, [f"{shown}/{file}" for file in files], stack_file, append)


def _made(name: str, files: list[str], stack_file: Path, append: Path | None) -> Result:
    verb = f"added to {append}" if append else f"made {stack_file.name}"
    option = "" if append is None or append.name in ("stack.yaml", "stack.yml") else f" -f {append}"
    listed = f"{', '.join(files[:-1])} and {files[-1]}" if len(files) > 1 else "".join(files)
    data = {"name": name, "files": files, "stackFile": str(append or stack_file.name)}
    return Result(f"made {listed}, {verb}\nnext: tailrace up{option}", data)


def _starter(lang: str, folder: Path) -> Path:
    """What a function of this template begins with: the pulled template's, else ours."""
    from tailrace.build.templatefile import read_template_file
    from tailrace.build.templates import find_template
    from tailrace.cli.templates import pulled

    if (path := pulled(folder).get(lang)) is None:
        try:
            return find_template(lang).path / "function"
        except InvalidDeployment as unknown:
            pull = f"Or pull it: tailrace template store pull {lang}"
            hint = f"{unknown.hint} {pull}" if unknown.hint else pull
            raise InvalidDeployment(unknown.message, hint=hint) from None
    inner = Path(os.path.normpath(path / (read_template_file(path).handler_folder or "function")))
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


def _appended(path: Path, name: str, entry: str) -> str:
    """The stack file's text with the entry at the end of its functions, everything else as it was."""
    from tailrace.cli.stackfile import read_text
    from tailrace.cli.stackreader import Reader
    from tailrace.cli.yamltext import Table, parse_yaml

    if not path.is_file():
        raise InvalidDeployment(f"there is no stack file {path.name}", hint="Leave --append out to make one.")
    text = read_text(path)
    top = Reader(path.name).table(parse_yaml(text, source=path.name), "the stack file")
    functions = top.items.get("functions")
    if not isinstance(functions, Table) or not functions.lines:
        raise InvalidDeployment(f"{path.name} has no functions to add to")
    if name in functions.items:
        raise AlreadyExists(f"{path.name} has a function '{name}' already (line {functions.lines[name]})")
    lines = text.splitlines(keepends=True)
    first = lines[min(functions.lines.values()) - 1]
    indent = re.match(r" *", first)
    entry = _indented(entry, len(indent.group()) if indent else 2)
    after = [line for line in top.lines.values() if line > top.lines["functions"]]
    at = _before_comments(lines, min(after) - 1 if after else len(lines))
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join(lines[:at]) + entry + "".join(lines[at:])


def _indented(entry: str, width: int) -> str:
    return "".join(f"{' ' * (width - 2)}{line}" if width >= 2 else line for line in entry.splitlines(True))


def _before_comments(lines: list[str], at: int) -> int:
    """Where the functions end: blank lines and comments in column 0 belong to what follows them."""
    while at and (not lines[at - 1].strip() or lines[at - 1].startswith("#")):
        at -= 1
    return at


def _check(text: str, path: Path, name: str) -> None:
    from tailrace.cli.stackfile import parse_stack

    stack = parse_stack(text, path, os.environ)
    if name not in [function.name.name for function in stack.functions]:
        raise InvalidDeployment(
            f"cannot add to {path.name} without disturbing it", hint="Add the function by hand, and run up."
        )
