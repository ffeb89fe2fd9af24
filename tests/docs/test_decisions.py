"""Decisions stay true: each names what holds it, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def test_decisions_are_numbered_in_order() -> None:
    """0001, 0002, ... without a gap or a twin."""
    numbers = [path.name[:4] for path in DECISIONS]

    assert numbers == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_its_status_and_what_holds_it(path: Path) -> None:
    """Title with its number, a status line, and a `Held by:` line."""
    text = path.read_text()

    assert text.startswith(f"# {path.name[:4]}: ")
    assert re.search(r"^Status: ", text, re.MULTILINE)
    assert re.search(r"^Held by: ", text, re.MULTILINE)


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_what_a_decision_names_exists(path: Path) -> None:
    """Every path in backticks is there, and every link leads to a file."""
    text = path.read_text()
    named = re.findall(r"`((?:src|tests|scripts|bench|docs|examples)/[\w./-]+)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    missing = [name for name in named if not (ROOT / name).exists()]
    broken = [link for link in linked if not (path.parent / link).exists()]

    assert (missing, broken) == ([], [])
