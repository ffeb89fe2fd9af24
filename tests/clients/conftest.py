"""One gateway that keeps runs per test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.gateway import Town, running_town
from tests.kit.runs import NatsServer


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Where runs are kept."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def recording_town(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway that keeps runs there."""
    with running_town(tmp_path_factory.mktemp("recording"), flags={"nats_url": nats.url}) as town:
        yield town
