"""One gateway per test module: its environments are built once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tailrace.llm.behaviour import Behaviour
from tests.kit.gateway import Town, running_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway and a mock model at 20 tokens/s."""
    with running_town(tmp_path_factory.mktemp("town"), behaviour=Behaviour(ttft_s=0.1, tps=20)) as town:
        yield town
