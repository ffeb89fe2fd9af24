"""The gateway's settings as options of a command: each is named and explained by its row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from tailrace.settings import ROWS, Row

_SHORT = {"port": "-p"}
_METAVARS = {"seconds": "SECONDS", "bytes": "BYTES", "": "VALUE"}


def _parameter(row: Row) -> inspect.Parameter:
    # The state directory's default depends on the person, so it is not part of a text.
    shown = f" Default: {row.default}." if row.default and row.name != "state_dir" else ""
    decls = [row.flag, *([_SHORT[row.name]] if row.name in _SHORT else [])]
    is_flag = row.default in ("true", "false")
    metavar = None if is_flag else _METAVARS.get(row.unit, "N")
    option = typer.Option(*decls, metavar=metavar, help=f"{row.sentence}{shown}")
    kind = bool if is_flag else str
    return inspect.Parameter(
        row.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these settings (all of them when none is named).

    The command takes them as keywords, None for an option that was not given, and its signature says so
    to the command line's library.
    """
    assert set(names) <= {row.name for row in ROWS}

    def give(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [_parameter(row) for row in ROWS if not names or row.name in names]
        parameters = [*own, *added]

        def run(**options: object) -> None:
            command(**options)

        run.__doc__, run.__name__, run.__module__ = command.__doc__, command.__name__, command.__module__
        run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect reads
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        )
        return run

    return give


def given(options: Mapping[str, object]) -> dict[str, object]:
    """Of a command's options those that are settings and were given."""
    known = {row.name for row in ROWS}
    return {name: value for name, value in options.items() if name in known and value is not None}
