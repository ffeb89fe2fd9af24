"""Questions to the person at the terminal."""

from __future__ import annotations

import typer

from tailrace.cli.result import INTERRUPTED


def ask_hidden(what: str) -> str:
    """What is typed, without echo; empty when the terminal says that nothing comes (Ctrl-D).

    Ctrl-C ends the command as it does everywhere, with exit code 130.
    """
    try:
        return str(typer.prompt(what, hide_input=True, err=True))
    except typer.Abort as aborted:
        if isinstance(aborted.__context__, EOFError):
            return ""
        raise SystemExit(INTERRUPTED) from None
