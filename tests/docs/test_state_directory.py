"""The settings' reference tells of everything in the state directory."""

from __future__ import annotations

from pathlib import Path

from tailrace.state import open_state

SETTINGS = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_what_a_state_directory_holds_is_told(tmp_path: Path) -> None:
    """Each folder and file that is made at a gateway's start."""
    with open_state(tmp_path / "state") as state:
        found = [entry.name + "/" * entry.is_dir() for entry in state.path.iterdir()]
    told = SETTINGS.read_text().partition("## Files in the state directory")[2]

    assert [] == [name for name in [*found, "node"] if f"| `{name}` |" not in told]
