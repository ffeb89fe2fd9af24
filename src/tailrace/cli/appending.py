"""A function's entry added to a stack file as text, so that every byte that was there stays."""

from __future__ import annotations

import re
from pathlib import Path

from tailrace.cli.stackfile import read_text
from tailrace.cli.stackreader import Reader
from tailrace.cli.yamltext import Node, Table, Text, parse_yaml
from tailrace.errors import AlreadyExists, InvalidDeployment

_BY_HAND = (
    "Add the function by hand, or give each function lines of its own: 'NAME:', indented, below 'functions:'."
)
# The key, and nothing behind it but an anchor or a comment: what is below are lines of its own, or nothing.
_ALONE = re.compile(r"(?:functions|'functions'|\"functions\")\s*:\s*(?:[&!]\S*\s*)*(?:#.*)?")


def appended(path: Path, name: str, entry: str) -> str:
    """The stack file's text with the entry at the end of its functions, everything else as it was.

    Args:
        entry: Its lines, indented by two.
    Raises:
        InvalidDeployment: there is no such file, or its functions are not written one below the other.
        AlreadyExists: it has a function of this name.
    """
    if not path.is_file():
        raise InvalidDeployment(f"there is no stack file {path.name}", hint="Leave --append out to make one.")
    text = read_text(path)
    top = Reader(path.name).table(parse_yaml(text, source=path.name), "the stack file")
    if "functions" not in top.items:
        raise InvalidDeployment(f"{path.name} has no 'functions:' to add to", hint="Write that line first.")
    lines = text.splitlines(keepends=True)
    of_key = top.lines["functions"]
    functions = _functions(top.items["functions"], lines, of_key, path.name)
    if name in functions:
        raise AlreadyExists(f"{path.name} has a function '{name}' already (line {functions[name]})")
    if functions:
        first = lines[min(functions.values()) - 1]
        entry = _indented(entry, len(first) - len(first.lstrip(" ")))
    after = [line for line in top.lines.values() if line > of_key]
    at = _before_comments(lines, min(after) - 1 if after else len(lines))
    at = max(at, of_key)
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join(lines[:at]) + entry + "".join(lines[at:])


def _functions(node: Node, lines: list[str], of_key: int, file: str) -> dict[str, int]:
    """The functions that are there, with their lines; a key with nothing below has none."""
    is_block = _ALONE.fullmatch(lines[of_key - 1].strip()) is not None
    if isinstance(node, Table) and node.lines:
        is_block = is_block and not lines[min(node.lines.values()) - 1].lstrip().startswith("{")
    if is_block and isinstance(node, Text) and node.is_null:
        return {}
    if not is_block or not isinstance(node, Table) or not node.lines:
        raise InvalidDeployment(
            f"{file} line {of_key}: nothing can be added to functions that are written in this form",
            hint=_BY_HAND,
        )
    return node.lines


def _indented(entry: str, width: int) -> str:
    return "".join(f"{' ' * (width - 2)}{line}" if width >= 2 else line for line in entry.splitlines(True))


def _before_comments(lines: list[str], at: int) -> int:
    """Where the functions end: blank lines and comments in column 0 belong to what follows them."""
    while at and (not lines[at - 1].strip() or lines[at - 1].startswith("#")):
        at -= 1
    return at
