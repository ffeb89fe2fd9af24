"""The same as tests/flow/test_kills.py, fifty times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.kills import kill_often

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


def test_fifty_kills_leave_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    assert [] == kill_often(tmp_path, 50, seed=2)
