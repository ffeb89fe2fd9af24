"""YAML whose scalars keep their source text, with the line of everything. Bounded and safe.

``true`` stays ``true`` and ``1e3`` stays ``1e3``, as an environment needs them; nothing is ever constructed
from a tag. Anchors, aliases and ``<<`` merges work, but what they expand to is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import yaml

from tailrace.errors import InvalidDeployment

# A stack file of hundreds of functions has tens of KiB.
FILE_LIMIT_BYTES = 256 * 1024
_NODE_LIMIT = 20_000
_DEPTH_LIMIT = 20
_NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it stands in the file. A null (``~``, ``null``, nothing) has the text ''."""

    value: str
    line: int
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """A sequence."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping. ``lines`` has the line of each key."""

    items: dict[str, Node]
    lines: dict[str, int]
    line: int


Node: TypeAlias = Text | Rows | Table


def parse_yaml(text: str, *, source: str) -> Node:
    """The file's one document; an empty file is a null Text.

    Args:
        source: What messages call the file.
    Raises:
        InvalidDeployment: no YAML, more than one document, too large, too deep, a key twice or a key
            that is no scalar.
    """
    if len(text) > FILE_LIMIT_BYTES:
        raise InvalidDeployment(f"{source} is larger than {FILE_LIMIT_BYTES // 1024} KiB")
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as bad:
        line = f" line {bad.problem_mark.line + 1}:" if bad.problem_mark else ":"
        raise InvalidDeployment(f"{source}{line} {bad.problem or bad.context}") from None
    except (yaml.YAMLError, RecursionError) as bad:
        what = "is nested too deeply" if isinstance(bad, RecursionError) else f"is not YAML: {bad}"
        raise InvalidDeployment(f"{source} {what}") from None
    return Text("", 1, is_null=True) if root is None else _Reader(source).read(root, 0)


class _Reader:
    """Copies PyYAML's node graph into ours, counting: an alias is paid for each time it is used."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = _NODE_LIMIT

    def read(self, node: yaml.Node, depth: int) -> Node:
        line = node.start_mark.line + 1
        self._left -= 1
        if self._left < 0 or depth > _DEPTH_LIMIT:
            what = "is nested too deeply" if depth > _DEPTH_LIMIT else "expands to too much"
            raise InvalidDeployment(f"{self._source} line {line}: the file {what}")
        if isinstance(node, yaml.ScalarNode):
            is_null = node.style is None and node.value in _NULLS
            return Text("" if is_null else node.value, line, is_null)
        if isinstance(node, yaml.SequenceNode):
            return Rows(tuple(self.read(item, depth + 1) for item in node.value), line)
        assert isinstance(node, yaml.MappingNode)
        return self._table(node, depth, line)

    def _table(self, node: yaml.MappingNode, depth: int, line: int) -> Table:
        items: dict[str, Node] = {}
        lines: dict[str, int] = {}
        merged: list[Table] = []
        for key_node, value_node in node.value:
            key = self.read(key_node, depth + 1)
            if not isinstance(key, Text):
                raise InvalidDeployment(f"{self._source} line {key.line}: a key must be a word")
            value = self.read(value_node, depth + 1)
            if key.value == "<<":
                merged += self._merges(value)
                continue
            if key.value in items:
                raise InvalidDeployment(
                    f"{self._source} line {key.line}: '{key.value}' is there twice, first in line "
                    f"{lines[key.value]}"
                )
            items[key.value], lines[key.value] = value, key.line
        for table in merged:  # own keys win, then the earlier merge
            for name, value in table.items.items():
                items.setdefault(name, value)
                lines.setdefault(name, table.lines[name])
        return Table(items, lines, line)

    def _merges(self, value: Node) -> list[Table]:
        found = value.items if isinstance(value, Rows) else (value,)
        tables = [item for item in found if isinstance(item, Table)]
        if len(tables) != len(found):
            raise InvalidDeployment(f"{self._source} line {value.line}: '<<' merges mappings only")
        return tables
