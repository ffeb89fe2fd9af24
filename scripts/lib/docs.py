"""The parts of docs/reference that are made from the code: run it (scripts/docs) to write them anew.

A page keeps its own words; what stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is ours.
`tests/docs/test_reference.py` fails when a page is behind the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from tailrace.cli.main import app
from tailrace.control.metrics.catalogue import OPENFAAS, OURS, WORKER, Family
from tailrace.options import OPTIONS
from tailrace.settings import ROWS, Row

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_block() -> Iterator[str]:
    """One section per setting of the gateway."""
    for row in ROWS:
        unit = f" {row.unit}" if row.unit else ""
        yield f"### `{row.name}`\n\n"
        yield f"{row.sentence}\n\n"
        commands = " and ".join(f"`tailrace {name}`" for name in commands_with(row.flag))
        yield f"Environment `{row.env}`, flag `{row.flag}` of {commands}. "
        yield f"Default: `{_default(row)}`{unit}." if _default(row) else "Default: none."
        yield " Changes at a reload.\n\n" if row.is_live else "\n\n"


def commands_with(flag: str) -> list[str]:
    """Which of the commands that run a gateway take the flag."""
    commands: dict[str, Any] = getattr(typer.main.get_command(app), "commands", {})
    return [name for name in ("serve", "up") if any(flag in p.opts for p in commands[name].params)]


def _default(row: Row) -> str:
    # The real default depends on the platform and the user; Linux's stands for it.
    return "~/.local/share/tailrace" if row.name == "state_dir" else row.default


def annotations_block() -> Iterator[str]:
    """One section per annotation."""
    for option in OPTIONS:
        values = ", ".join(f"`{choice}`" for choice in option.choices)
        values = option.form or values
        default = f"Default: `{option.default}`." if option.default else "Without it: as said here."
        yield f"### `{option.key}`\n\n{option.sentence}\n\nValue: {values}. {default}\n\n"


def commands_block() -> Iterator[str]:
    """One section per command: its help, its usage, its arguments and options."""
    yield from _command("tailrace", typer.main.get_command(app))


def _command(path: str, command: Any) -> Iterator[str]:
    subcommands = getattr(command, "commands", {})
    if not subcommands:
        yield f"### `{path}`\n\n{_help(command.help or '')}\n"
        yield from _usage(
            path, [p for p in command.params if p.name != "help" and not p.hidden], typer.Context(command)
        )
    for name, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from _command(f"{path} {name}", subcommand)


def _help(text: str) -> str:
    """A docstring as Markdown; what follows a form feed of typer's (\\b) keeps its lines."""
    prose, *kept = inspect.cleandoc(text).split("\b\n")
    examples = "".join(f"\n```text\n{block.strip()}\n```\n" for block in kept)
    return f"{prose.strip()}\n{examples}"


def _usage(path: str, params: list[Any], context: Any) -> Iterator[str]:
    arguments = [p for p in params if p.param_type_name == "argument"]
    options = [p for p in params if p.param_type_name == "option"]
    words = [path, *(_shown(a) for a in arguments), *(["[OPTIONS]"] if options else [])]
    yield f"```text\n{' '.join(words)}\n```\n\n"
    rows = [(_name(argument), argument.help or "") for argument in arguments]
    rows += [option.get_help_record(context) for option in options]
    yield "| | |\n|---|---|\n" if rows else ""
    for names, words_about in rows:
        yield "| `{}` | {} |\n".format(names.replace("|", "\\|"), words_about)
    yield "\n" if rows else ""


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _shown(argument: Any) -> str:
    many = "..." if argument.nargs == -1 else ""
    return f"{_name(argument)}{many}" if argument.required else f"[{_name(argument)}]{many}"


def openfaas_metrics_block() -> Iterator[str]:
    """The metrics that OpenFaaS names."""
    yield from _metrics(OPENFAAS)


def metrics_block() -> Iterator[str]:
    """Our own metrics."""
    yield from _metrics(OURS)


def worker_metrics_block() -> Iterator[str]:
    """Those that a worker has too."""
    yield from _metrics(WORKER)


def _metrics(families: tuple[Family, ...]) -> Iterator[str]:
    yield "| name | type | labels | meaning |\n|---|---|---|---|\n"
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels or 'none'} | {family.sentence} |\n"


def buckets_block() -> Iterator[str]:
    """The upper bounds of the histograms."""
    yield "| name | upper bounds of the buckets |\n|---|---|\n"
    for family in (*OPENFAAS, *OURS, *WORKER):
        if family.bounds:
            yield f"| `{family.name}` | {', '.join(f'{bound:g}' for bound in family.bounds)} |\n"


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings_block,
    "annotations": annotations_block,
    "commands": commands_block,
    "openfaas_metrics": openfaas_metrics_block,
    "metrics": metrics_block,
    "worker_metrics": worker_metrics_block,
    "buckets": buckets_block,
}


def renewed(page: str) -> str:
    """A page's text with its generated parts as the code has them now."""
    return _BLOCK.sub(lambda m: f"{m[1]}\n{''.join(BLOCKS[m[2]]())}{m[3]}", page)


def pages() -> list[Path]:
    """The pages that have a generated part."""
    return [path for path in sorted(REFERENCE.glob("*.md")) if _BLOCK.search(path.read_text())]


if __name__ == "__main__":
    for path in pages():
        path.write_text(renewed(path.read_text()))
