"""Tables for people: columns as wide as their widest cell, fields with their names, pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tailrace.cli.terminal import plain


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows, all of one length, one a line; the first is the heading. No blanks at the ends.

    Cells may come from anywhere: none of them ends a line or is obeyed by a terminal.
    """
    if not rows:
        return ""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def fields(rows: Iterable[tuple[str, str]], *, width: int = 13) -> list[str]:
    """``Name:  value``, for rows that have a value, whose further lines are indented.

    A value may come from anywhere, as in `columns`.
    """
    indent = "\n" + " " * width
    shown = [(key, [plain(line) for line in value.rstrip().split("\n")]) for key, value in rows if value]
    return [f"{key + ':':<{width}}{indent.join(lines)}" for key, lines in shown]


def pairs(found: Mapping[str, str] | None) -> str:
    """Labels and the like on one line, sorted."""
    return ", ".join(f"{key}={value}" for key, value in sorted((found or {}).items()))
