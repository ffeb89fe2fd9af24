"""The table that compares our verbs with faas-cli's: complete, and every command and flag in it exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from tailrace.cli.main import app

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"
# Of faas-cli 0.18.12.
THEIRS = (
    "auth", "build", "chart", "completion", "deploy", "describe", "diff", "generate", "invoke", "list",
    "local-run", "login", "logout", "logs", "namespace create", "namespace get", "namespace list",
    "namespace remove", "namespace update", "namespaces", "new", "plugin", "publish", "push", "ready",
    "registry-login", "remove", "secret apply", "secret create", "secret generate", "secret keygen",
    "secret list", "secret remove", "secret seal", "secret unseal", "secret update", "store deploy",
    "store describe", "store list", "template pull", "template store describe", "template store list",
    "template store pull", "up", "version", "watch",
)  # fmt: skip
# They go on until they are stopped, or print a script: nothing that a script would read as JSON.
WITHOUT_JSON = ("completion", "llm install", "reload", "serve", "up", "watchdog", "worker")


def rows() -> list[list[str]]:
    """The table's cells."""
    text = PAGE.read_text().partition("## Compared with faas-cli")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def commands() -> dict[str, Any]:
    """Every command that can be run, by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, name: str) -> None:
        for verb, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {verb}".strip())
        if not hasattr(command, "commands"):
            found[name] = command

    walk(typer.main.get_command(app), "")
    return found


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_every_verb_of_faas_cli_has_its_row() -> None:
    assert sorted(THEIRS) == sorted(word for row in rows() for word in words(row[0]))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_the_table_says_we_have_exists(row: list[str]) -> None:
    ours = [word for word in words(row[1]) if not word.startswith("-")]
    known = commands()

    assert set(ours) <= set(known)
    assert ours or row[1] == "none"
    all_flags = {flag for verb in ours for flag in flags(known[verb])}
    assert {word for word in words(row[1]) if word.startswith("-")} <= all_flags


def test_every_verb_that_answers_speaks_json() -> None:
    assert sorted(WITHOUT_JSON) == sorted(
        name for name, command in commands().items() if "--json" not in flags(command)
    )
