"""What is published of the benchmarks: rows, tables, and the README's quotation."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from bench.__main__ import PARTS, README, RESULTS, newest, quoted
from bench.rows import Limit, Results, Row, page, table

SAVED = sorted(RESULTS.glob("*.json"))
ROW = Row("proxy", "CPU per chunk", "us", "less", [20.0, 30.0, 24.0], "nginx", [20.0, 20.0, 20.0])


def test_a_row_tells_medians_and_the_range_of_its_ratios() -> None:
    """Of the rounds, each of which has a ratio of its own."""
    text = table([ROW])

    assert "| CPU per chunk | 24 us | nginx | 20 us | 1.20 | 1 to 1.50 | less |  |" in text


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limit("ratio", "most", 1.3), "ratio ≤ 1.3: kept"),
        (Limit("ratio", "most", 1.1), "ratio ≤ 1.1: **not kept**"),
        (Limit("figure", "least", 24), "≥ 24 us: kept"),
    ],
)
def test_a_row_tells_whether_it_kept_its_limit(limit: Limit, words: str) -> None:
    """Of the ratio or of our own figure."""
    assert words == msgspec.structs.replace(ROW, limit=limit).verdict


def test_a_figure_of_nothing_has_no_ratio() -> None:
    """0 events late beside 0, or a delay below nothing: a dash, and a limit on the figure still holds."""
    row = msgspec.structs.replace(ROW, ours=[0.0], theirs=[0.0], limit=Limit("figure", "most", 0))

    assert row.ratio is None
    assert "≤ 0 us: kept" == row.verdict
    assert "| – | – |" in table([row])  # noqa: RUF001  # a dash in a table


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_results_file_names_no_machine_and_no_path(path: Path) -> None:
    """Cores, processor, versions; and its page is made from it."""
    text = path.read_text()
    results = msgspec.json.decode(text, type=Results)

    assert {"cores", "cpu", "kernel", "python", "nginx", "data path"} == set(results.machine)
    assert path.stem == results.date
    assert set(PARTS) == {row.part for row in results.rows}
    assert [] == re.findall(r"/(?:home|root|work|tmp|usr|var)/", text)
    assert page(results) == path.with_suffix(".md").read_text()


def test_the_readme_quotes_the_newest_results() -> None:
    """When this fails: scripts/bench --quote."""
    results = newest()
    readme = README.read_text()

    assert results is not None
    assert "<!-- bench: " in readme
    assert quoted(readme, results) == readme
