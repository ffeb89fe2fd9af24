"""``tailrace completion``: what a shell needs to complete our commands and options."""

from __future__ import annotations

import enum
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tailrace.errors import InvalidUsage

VARIABLE = "_TAILRACE_COMPLETE"


class Shell(enum.StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def command(
    shell: Annotated[
        Shell | None, typer.Option("--shell", help="The shell. Default: the one of $SHELL.")
    ] = None,
) -> None:
    """Print a script that lets a shell complete commands and options.

    \b
    Examples:
      tailrace completion --shell bash > ~/.local/share/bash-completion/completions/tailrace
      tailrace completion --shell zsh > ~/.zfunc/_tailrace
      tailrace completion --shell fish > ~/.config/fish/completions/tailrace.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # it is there

    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in list(Shell):
        raise InvalidUsage("which shell is it?", hint="Add --shell bash, --shell zsh or --shell fish.")
    script = get_completion_script(prog_name="tailrace", complete_var=VARIABLE, shell=str(name))
    sys.stdout.write(script + "\n")


def answer_shell() -> None:
    """Let typer answer, where it is a shell that runs us: its classes for shells are made on demand."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # it is there

        completion_init()
