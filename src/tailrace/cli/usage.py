"""The line of usage: arguments by their names alone, a list of them as ``[NAME]...``."""

from __future__ import annotations

import typer
from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose usage has no braces, which a person could take for something to type."""

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # its Context is private
        """The words after the command's name."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]
