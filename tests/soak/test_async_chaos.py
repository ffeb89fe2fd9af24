"""The same as tests/queue/test_kills.py, with 200 calls and 20 kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.chaos import run_chaos

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", [4, 5])
def test_no_call_is_lost_while_all_is_killed(tmp_path: Path, seed: int) -> None:
    """Every accepted call reaches its callback at least once, under its own id."""
    chaos = run_chaos(tmp_path, calls=200, kills=20, seed=seed, limit_s=180)

    print(f"killed {dict(chaos.kills)}; results that came twice or more: "
          f"{sum(count > 1 for count in chaos.came.values())}")  # fmt: skip
    assert [] == chaos.lost
    assert 200 == len(chaos.accepted)
    assert set(chaos.accepted) <= set(chaos.came)
