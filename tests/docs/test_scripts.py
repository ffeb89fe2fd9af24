"""The scripts run on any POSIX shell, and the README names the two that matter."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
SHELL = [*SCRIPTS, *sorted((ROOT / "scripts" / "lib").glob("*.sh"))]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_script_is_valid_posix_shell(path: Path) -> None:
    """macOS has an old bash, Debian a dash: both must be able to read it."""
    checked = subprocess.run(["sh", "-n", path], capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_started_and_stops_at_the_first_failure(path: Path) -> None:
    """Executable, for sh, with set -eu, and a comment that says what it does."""
    lines = path.read_text().splitlines()

    assert os.access(path, os.X_OK)
    assert lines[0] == "#!/bin/sh"
    assert lines[1].startswith("# ")
    assert "set -eu" in lines


def test_the_readme_shows_both_commands_and_ci_runs_the_tests() -> None:
    """What a newcomer is told to run is what CI runs."""
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text()

    assert re.search(r"^scripts/demo\b", readme, re.MULTILINE)
    assert re.search(r"^scripts/test\b", readme, re.MULTILINE)
    assert re.search(r"^scripts/test\b", ci, re.MULTILINE)
    assert re.search(r"^scripts/check\b", ci, re.MULTILINE)


def test_no_committed_file_names_an_index() -> None:
    """Where packages come from is the business of whoever installs them."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith("docs/")]
    address = re.compile(r"https?://[^\s\"']*(?:pypi\.org|pythonhosted|registry\.npmjs)")

    found = [n for n in names if (ROOT / n).is_file() and address.search(_text(ROOT / n))]

    assert found == []


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
