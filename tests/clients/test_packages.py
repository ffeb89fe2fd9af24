"""The JavaScript clients are pinned, locked with hashes, reasoned for, and named in the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
WANTED: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
LOCKED: dict[str, dict[str, object]] = json.loads((HERE / "package-lock.json").read_text())["packages"]


def test_every_client_is_pinned_to_one_version_and_the_lock_agrees() -> None:
    """A new version comes by a change of package.json, never by itself."""
    exact = {name: version for name, version in WANTED.items() if re.fullmatch(r"\d+\.\d+\.\d+", version)}
    locked = {name: LOCKED[f"node_modules/{name}"]["version"] for name in WANTED}

    assert WANTED == exact == locked


def test_the_lock_holds_hashes_and_no_addresses() -> None:
    """Whoever installs decides from which registry."""
    packages = {name: package for name, package in LOCKED.items() if name}

    assert packages
    assert [name for name, package in packages.items() if not package.get("integrity")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_every_client_has_its_reason_and_the_version_it_was_tested_in() -> None:
    """In the decision about dependencies, and in the page about clients."""
    reasons = (DOCS / "decisions" / "0002-dependencies.md").read_text()
    tested = (DOCS / "explanation" / "clients.md").read_text()

    assert [name for name in WANTED if f"| `{name}` |" not in reasons] == []
    assert [
        f"{name} {version}" for name, version in WANTED.items() if f"| {name} {version} |" not in tested
    ] == []
