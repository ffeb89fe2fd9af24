"""One NATS per test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.runs import NatsServer


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS with JetStream."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url
