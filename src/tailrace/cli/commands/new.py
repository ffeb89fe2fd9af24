"""``tailrace new``: a function's folder and its entry in the stack file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from tailrace.cli.result import Result, finish
from tailrace.errors import AlreadyExists, InvalidDeployment, InvalidRequest
from tailrace.names import is_function_label

_HEAD = "version: 1.0\nprovider:\n  name: openfaas\n  gateway: http://127.0.0.1:8080\nfunctions:\n"


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The function's name: a-z, 0-9 and '-'.")],
    lang: Annotated[str, typer.Option("--lang", metavar="L", help="The template.")] = "python3-stream",
    append: Annotated[
        Path | None, typer.Option("--append", metavar="FILE", help="Add to this stack file.")
    ] = None,
) -> None:
    """Make a function: NAME/handler.py, NAME/requirements.txt and stack.yaml.

    \b
    Templates:
      python3-stream         async generators; each yield is one event (the default)
      python3-flask          handle(req), anything Flask accepts     (-debian: the same here)
      python3-http           handle(event, context)                  (-debian: the same here)
      python3-asgi           an ASGI app: WebSocket, Starlette, FastAPI
    \b
    Examples:
      tailrace new hello
      tailrace new stream --lang python3-flask --append stack.yaml
    """
    finish(make(name, lang, append, Path.cwd()))


def make(name: str, lang: str, append: Path | None, folder: Path) -> Result:
    """Write the files below folder.

    Raises:
        InvalidRequest, InvalidDeployment: the name, the template or the stack file is not usable.
        AlreadyExists: a file would be overwritten.
    """
    from tailrace.build.templates import find_template

    if not is_function_label(name):
        raise InvalidRequest(
            f"'{name}' is no function name",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.",
        )
    template = find_template(lang)
    home = folder / name
    if home.exists():
        raise AlreadyExists(f"{name}/ exists already", hint="Choose another name; nothing was written.")
    if append is None and (found := _existing(folder)):
        raise AlreadyExists(
            f"{found} exists already", hint=f"Add to it: tailrace new {name} --lang {lang} --append {found}"
        )
    stack_file = folder / (append or "stack.yaml")
    handler = os.path.relpath(home, stack_file.parent)
    entry = f"  {name}:\n    lang: {lang}\n    handler: ./{handler}\n    image: {name}:latest\n"
    text = _HEAD + entry if append is None else _appended(stack_file, name, entry)
    _copy_starter(template.path / "function", home)
    try:
        _check(text, stack_file, name)
        stack_file.write_text(text, encoding="utf-8")
    except BaseException:
        _remove_starter(home)
        raise
    return _made(name, stack_file, append)


def _made(name: str, stack_file: Path, append: Path | None) -> Result:
    verb = f"added to {append}" if append else f"made {stack_file.name}"
    option = "" if append is None or append.name in ("stack.yaml", "stack.yml") else f" -f {append}"
    return Result(f"made {name}/handler.py and {name}/requirements.txt, {verb}\nnext: tailrace up{option}")


def _copy_starter(source: Path, home: Path) -> None:
    home.mkdir()
    for file in ("handler.py", "requirements.txt"):
        (home / file).write_bytes((source / file).read_bytes())


def _remove_starter(home: Path) -> None:
    for file in home.iterdir():
        file.unlink()
    home.rmdir()


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
