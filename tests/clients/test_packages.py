"""What comes from npm is pinned, locked with hashes, reasoned for, and named in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
WANTED: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
OURS = HERE.parents[1] / "clients" / "js"
FOLDERS = pytest.mark.parametrize("folder", [HERE, OURS], ids=["clients of others", "our own"])


def _wanted(folder: Path) -> dict[str, str]:
    package = json.loads((folder / "package.json").read_text())
    return {**package["dependencies"], **package.get("devDependencies", {})}


def _locked(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "package-lock.json").read_text())["packages"]
    return found


@FOLDERS
def test_every_package_is_pinned_to_one_version_and_the_lock_agrees(folder: Path) -> None:
    """A new version comes by a change of package.json, never by itself."""
    wanted = _wanted(folder)
    exact = {name: version for name, version in wanted.items() if re.fullmatch(r"\d+\.\d+\.\d+", version)}
    locked = {name: _locked(folder)[f"node_modules/{name}"]["version"] for name in wanted}

    assert wanted == exact == locked


@FOLDERS
def test_the_lock_holds_hashes_and_no_addresses(folder: Path) -> None:
    """Whoever installs decides from which registry."""
    packages = {name: package for name, package in _locked(folder).items() if name}

    assert packages
    assert [name for name, package in packages.items() if not package.get("integrity")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_our_own_client_needs_one_package_and_every_package_has_its_reason() -> None:
    """Two more build it; what is read with others' clients and shipped with ours is the same version."""
    package = json.loads((OURS / "package.json").read_text())
    reasons = (DOCS / "decisions" / "0002-dependencies.md").read_text()

    assert {"eventsource-parser": WANTED["eventsource-parser"]} == package["dependencies"]
    assert [name for name in _wanted(OURS) if f"| `{name}` |" not in reasons] == []


def test_every_client_has_its_reason_and_the_version_it_was_tested_in() -> None:
    """In the decision about dependencies, and in the page about clients."""
    reasons = (DOCS / "decisions" / "0002-dependencies.md").read_text()
    tested = (DOCS / "explanation" / "clients.md").read_text()

    assert [name for name in WANTED if f"| `{name}` |" not in reasons] == []
    assert [
        f"{name} {version}" for name, version in WANTED.items() if f"| {name} {version} |" not in tested
    ] == []
