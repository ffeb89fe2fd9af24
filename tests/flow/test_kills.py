"""kill -9 of the gateway while it changes something leaves the old state or the new one, never a third."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.kills import kill_often

pytestmark = pytest.mark.slow


def test_a_kill_in_the_middle_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    """While it deploys, updates, removes, or changes a secret; functions answer again after each start."""
    assert [] == kill_often(tmp_path, 10, seed=1)
