"""What a benchmark found: rows that each compare two figures of one run, as JSON and as a Markdown table."""

from __future__ import annotations

import statistics
from typing import Literal

import msgspec

OURS = "Tailrace"
_NONE = "–"  # noqa: RUF001  # a dash in a table


class Limit(msgspec.Struct, frozen=True):
    """What a row should keep to: at most or at least this, of the ratio or of our own figure."""

    of: Literal["ratio", "figure"]
    kind: Literal["most", "least"]
    value: float

    def is_kept(self, ratio: float | None, figure: float) -> bool:
        value = ratio if self.of == "ratio" else figure
        if value is None:
            return False
        return value <= self.value if self.kind == "most" else value >= self.value

    def words(self, unit: str) -> str:
        sign = "≤" if self.kind == "most" else "≥"
        return (
            f"ratio {sign} {self.value:g}" if self.of == "ratio" else f"{sign} {self.value:g} {unit}".strip()
        )


class Row(msgspec.Struct, frozen=True):
    """One figure of ours beside one of another, measured in turn: an entry per round in both lists.

    Attributes:
        better: Whether less or more of it is better.
        note: Answers that failed, of the other one if nothing else is said.
        is_quoted: Whether the README shows it.
    """

    part: str
    what: str
    unit: str
    better: Literal["less", "more"]
    ours: list[float]
    other: str
    theirs: list[float]
    limit: Limit | None = None
    note: str = ""
    is_quoted: bool = False

    @property
    def figure(self) -> float:
        return statistics.median(self.ours)

    @property
    def other_figure(self) -> float:
        return statistics.median(self.theirs)

    @property
    def ratios(self) -> list[float]:
        """Of each round; empty if some round has none (a figure of 0, or an added latency below nothing)."""
        pairs = list(zip(self.ours, self.theirs, strict=True))
        return [a / b for a, b in pairs] if all(a >= 0 and b > 0 for a, b in pairs) else []

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def verdict(self) -> str:
        """The limit and whether this run kept it; empty without one."""
        if self.limit is None:
            return ""
        is_kept = self.limit.is_kept(self.ratio, self.figure)
        return f"{self.limit.words(self.unit)}: {'kept' if is_kept else '**not kept**'}"


class Results(msgspec.Struct, frozen=True):
    """One run of all parts or of some. ``date`` is the machine's, ``load`` its load average before."""

    date: str
    machine: dict[str, str]
    rounds: int
    took_s: float
    load: float
    rows: list[Row]


def shown(value: float) -> str:
    """A figure with about three significant digits."""
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _with_unit(value: float, unit: str) -> str:
    return f"{shown(value)} {unit}".strip()


def _figures(row: Row) -> str:
    other = f"{row.other} ({row.note})" if row.note else row.other
    ratio = shown(row.ratio) if row.ratio is not None else _NONE
    return (
        f"{_with_unit(row.figure, row.unit)} | {other} | {_with_unit(row.other_figure, row.unit)} | {ratio}"
    )


def _range(row: Row) -> str:
    return f"{shown(min(row.ratios))} to {shown(max(row.ratios))}" if row.ratios else _NONE


def table(rows: list[Row]) -> str:
    """Every row, with the range of its ratio over the rounds."""
    lines = [
        "| measured | Tailrace | beside | its figure | ratio | range | better | aim |",
        "|---|---:|---|---:|---:|---|---|---|",
    ]
    above = ""
    for row in rows:
        what, above = row.what if row.what != above else "", row.what
        lines.append(f"| {what} | {_figures(row)} | {_range(row)} | {row.better} | {row.verdict} |")
    return "\n".join(lines) + "\n"


def quote(results: Results) -> str:
    """The rows that the README shows, and where they come from."""
    lines = ["| measured | Tailrace | beside | its figure | ratio |", "|---|---:|---|---:|---:|"]
    for row in results.rows:
        if row.is_quoted:
            lines.append(f"| {row.what} | {_figures(row)} |")
    facts = results.machine
    lines += [
        "",
        f"{results.date}: {facts['cores']} cores ({facts['cpu']}), Python {facts['python']}, "
        f"nginx {facts['nginx']}, data path {facts['data path']}; medians of {results.rounds} rounds "
        f"in turn. [All rows with their ranges](bench/results/{results.date}.md).",
    ]
    return "\n".join(lines) + "\n"


def page(results: Results) -> str:
    """The results as a page of their own."""
    facts = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    return (
        f"# Benchmarks of {results.date}\n\n"
        f"Made by `scripts/bench` in {results.took_s:.0f} s; do not edit. {facts}; load average before: "
        f"{results.load:.1f}.\n\n"
        f"Every row compares two figures of this run, measured in turn, {results.rounds} rounds: the "
        "medians, the median of the rounds' ratios, and the ratios' range. Machines differ, so read the "
        "ratios. What is compared, and how, is in [bench/README.md](../README.md).\n\n"
        f"{table(results.rows)}"
    )
