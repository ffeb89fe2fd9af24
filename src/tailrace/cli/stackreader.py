"""Typed reading of a YAML table, where every refusal names the file and the line."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace.cli.yamltext import Node, Rows, Table, Text
from tailrace.errors import InvalidDeployment
from tailrace.names import nearest

_TRUE = ("true", "yes", "on")
_FALSE = ("", "false", "no", "off")


class Reader:
    """Reads the tables of one file. A missing key, and a null, is the empty value of its kind."""

    def __init__(self, source: str) -> None:
        self._source = source

    def refuse(self, line: int, what: str, *, hint: str | None = None) -> InvalidDeployment:
        """The error to raise about a line of this file."""
        return InvalidDeployment(f"{self._source} line {line}: {what}", hint=hint)

    def check_keys(self, table: Table, known: Sequence[str], what: str) -> None:
        """Refuse the first key that is not known, with the nearest that is."""
        for key, line in table.lines.items():
            if key not in known:
                near = nearest(key, known)
                hint = f"Did you mean '{near}'?" if near else f"Known keys: {', '.join(known)}."
                raise self.refuse(line, f"'{key}' is not a key of {what}", hint=hint)

    def table(self, node: Node, what: str) -> Table:
        """The node as a mapping."""
        if isinstance(node, Table):
            return node
        if isinstance(node, Text) and node.is_null:
            return Table({}, {}, node.line)
        raise self.refuse(node.line, f"{what} must be a mapping (key: value)")

    def subtable(self, table: Table, key: str) -> Table:
        """The mapping under key."""
        node = table.items.get(key)
        return Table({}, {}, table.line) if node is None else self.table(node, f"'{key}'")

    def rows(self, table: Table, key: str) -> tuple[Node, ...]:
        """The list under key."""
        node = table.items.get(key)
        if node is None or (isinstance(node, Text) and node.is_null):
            return ()
        if not isinstance(node, Rows):
            raise self.refuse(node.line, f"'{key}' must be a list (lines that begin with '-')")
        return node.items

    def text(self, table: Table, key: str) -> str:
        """The scalar's source text under key."""
        node = table.items.get(key)
        return "" if node is None else self._scalar(node, f"'{key}'")

    def texts(self, table: Table, key: str) -> tuple[str, ...]:
        """The list of scalars under key."""
        return tuple(self._scalar(item, f"an item of '{key}'") for item in self.rows(table, key))

    def texts_by_key(self, table: Table, key: str, *, pairs: bool = False) -> dict[str, str]:
        """The mapping of scalars under key; with ``pairs`` also a list of ``K=V``."""
        if pairs and isinstance(table.items.get(key), Rows):
            return dict(self._pair(item, key) for item in self.rows(table, key))
        found = self.subtable(table, key)
        return {name: self._scalar(node, f"'{key}.{name}'") for name, node in found.items.items()}

    def flag(self, table: Table, key: str) -> bool:
        """The truth value under key."""
        text = self.text(table, key).lower()
        if text not in (*_TRUE, *_FALSE):
            raise self.refuse(table.lines[key], f"'{key}: {text}' is neither true nor false")
        return text in _TRUE

    def _scalar(self, node: Node, what: str) -> str:
        if isinstance(node, Text):
            return node.value
        kind = "a list" if isinstance(node, Rows) else "a mapping"
        raise self.refuse(node.line, f"{what} must be one value, not {kind}")

    def _pair(self, node: Node, key: str) -> tuple[str, str]:
        text = self._scalar(node, f"an item of '{key}'")
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise self.refuse(node.line, f"'{text}' in '{key}' is not of the form NAME=value")
        return name, value
