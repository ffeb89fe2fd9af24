"""One gateway for all requests, with the password and the payload secret of the transcripts."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.compat.world import PASSWORD, USER, World
from tests.kit.gateway import running_town
from tests.kit.remote import SECRET


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway with auth whose credentials lie where OpenFaaS keeps them, and with NATS of its own."""
    folder = tmp_path_factory.mktemp("world")
    mounted = folder / "mounted"
    mounted.mkdir()
    (mounted / "basic-auth-user").write_text(f"{USER}\n")
    (mounted / "basic-auth-password").write_text(f"{PASSWORD}\n")
    (folder / "payload").write_text(SECRET)
    flags = {
        "auth": True,
        "secret_mount_path": mounted,
        "payload_secret_file": folder / "payload",
        "nats_url": "embedded",
    }
    with (
        running_town(folder, flags=flags) as town,
        httpx.Client(base_url=town.url, timeout=60, auth=(USER, PASSWORD)) as http,
    ):
        yield World(town, http)
