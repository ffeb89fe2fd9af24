"""Log lines on a screen: whose they are in front, and pieces of one line joined."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from tailrace.cli.terminal import Paint
from tailrace.model import LogLine


class Output(Protocol):
    """Where lines go: a text stream, or what stands in for one."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to show: the label in front, who wrote it, and its text, unfinished without a newline.

    ``column`` stands between label and text, dim, as wide as it is given; empty leaves the column out.
    """

    label: str
    source: Hashable
    text: str
    is_platform: bool = False
    column: str = ""


def piece_of(line: LogLine) -> Piece:
    """A log line with its function's name in front."""
    source = (line.instance, line.call_id, line.stream)
    return Piece(line.function.short, source, line.text, line.instance == "tailrace")


class LogView:
    """Writes pieces to a stream, a label in front of each line, labels aligned.

    Consecutive unfinished pieces of one source stand on one line; anybody else's words begin a new one.
    """

    def __init__(self, out: Output, paint: Paint) -> None:
        self._out = out
        self._paint = paint
        self._width = 0
        self._order: dict[str, int] = {}
        self._open: tuple[str, Hashable] | None = None

    def add_label(self, label: str) -> None:
        """Reserve room and a colour for a label before its first line."""
        self._order.setdefault(label, len(self._order))
        self._width = max(self._width, len(label))

    def show(self, piece: Piece) -> None:
        """Write a piece now."""
        who = (piece.label, piece.source)
        if self._open is not None and self._open != who:
            self.end_line()
        *whole, rest = piece.text.split("\n")
        for line in whole:
            self._write(who, line, piece)
            self.end_line()
        if rest:
            self._write(who, rest, piece)
        self._out.flush()

    def _write(self, who: tuple[str, Hashable], line: str, piece: Piece) -> None:
        if self._open is None:
            self._out.write(self._prefix(piece.label))
            if piece.column:
                self._out.write(f"{self._paint.dim(self._paint.clean(piece.column))}  ")
        shown = self._paint.clean(line.rstrip("\r"))
        self._out.write(self._paint.dim(shown) if piece.is_platform else shown)
        self._open = who

    def say(self, label: str, text: str) -> None:
        """Write the platform's own words about a label, already painted, each line with the label."""
        self.end_line()
        for line in text.split("\n"):
            self._out.write(f"{self._prefix(label)}{line}\n")
        self._out.flush()

    def end_line(self) -> None:
        """Finish a line that is open."""
        if self._open is not None:
            self._out.write("\n")
            self._open = None

    def _prefix(self, label: str) -> str:
        self.add_label(label)
        return f"{self._paint.name(label.ljust(self._width), self._order[label])}  "
