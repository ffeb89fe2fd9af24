"""The gateway's settings as lines: each with its value and where it came from, or what a reload changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailrace.settings import Row, Settings


@dataclass(frozen=True, slots=True)
class Merge:
    """What a reload comes to.

    Attributes:
        settings: To be put in force: new where a running gateway takes it, else old.
        changed: A line per setting that is new.
        waiting: A line per setting that differs and needs a restart.
    """

    settings: Settings
    changed: list[str]
    waiting: list[str]


def describe(settings: Settings) -> str:
    """Every effective setting with its unit and where it came from, a line each."""
    from tailrace.settings import ROWS

    lines = []
    for row in ROWS:
        value = _shown(getattr(settings, row.name), row.unit)
        lines.append(f"{row.name:<22} {value}  ({settings.sources[row.name]})")
    return "\n".join(lines)


def merge(old: Settings, new: Settings) -> Merge:
    """Which of the new settings a gateway that runs with the old ones takes."""
    from tailrace.settings import ROWS

    live: dict[str, object] = {}
    sources = dict(old.sources)
    changed: list[str] = []
    waiting: list[str] = []
    for row in ROWS:
        if row.is_live:
            live[row.name], sources[row.name] = getattr(new, row.name), new.sources[row.name]
        if getattr(new, row.name) != getattr(old, row.name):
            (changed if row.is_live else waiting).append(_change(row, old, new))
    return Merge(replace(old, **live, sources=sources), changed, waiting)  # type: ignore[arg-type]  # by rows


def _change(row: Row, old: Settings, new: Settings) -> str:
    was, becomes = (_shown(getattr(settings, row.name), "") for settings in (old, new))
    return f"{row.name} {was} -> {f'{becomes} {row.unit}'.rstrip()}  ({new.sources[row.name]})"


def _shown(value: object, unit: str) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value} {unit}".rstrip()
