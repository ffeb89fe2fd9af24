"""``configuration.templates`` of a stack file: which templates it needs, and where they come from."""

from __future__ import annotations

import os
from pathlib import Path

from tailrace.cli.envsubst import substitute
from tailrace.cli.stackreader import Reader
from tailrace.cli.yamltext import Table, parse_yaml

PULL = "tailrace template pull stack"


def read_templates(configuration: Table, reader: Reader) -> dict[str, str]:
    """Template names with their sources; an empty source means the template store.

    Raises:
        InvalidDeployment: an entry is no mapping of ``name`` and ``source``, or has no name.
    """
    found = {}
    for entry in reader.rows(configuration, "templates"):
        table = reader.table(entry, "a template")
        reader.check_keys(table, ("name", "source"), "a template")
        name = reader.text(table, "name")
        if not name:
            raise reader.refuse(table.line, "a template has no name")
        found[name] = reader.text(table, "source")
    return found


def templates_of_stack(file: str | None, folder: Path) -> tuple[Path, dict[str, str]]:
    """The stack file, and what it says about templates; nothing else of it is looked at.

    Raises:
        NotFound, InvalidDeployment: there is no stack file, or it cannot be read.
    """
    from tailrace.cli.stackfile import find_stack_file, read_text

    path = find_stack_file(file, folder)
    reader = Reader(path.name)
    top = reader.table(
        parse_yaml(substitute(read_text(path), os.environ), source=path.name), "the stack file"
    )
    return path, read_templates(reader.subtable(top, "configuration"), reader)
