"""The gateway's own NATS comes back, whatever kept it away: the real one."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import nats
import pytest

from tailrace.nats.embedded import embedded_nats
from tests.kit.loops import run
from tests.kit.ps import ps

pytestmark = pytest.mark.slow


def _servers(folder: Path) -> list[int]:
    """Its keeper and it."""
    rows = [row.split(None, 1) for row in ps("-A", "-o", "pid=,args=").splitlines()]
    return [int(pid) for pid, args in rows if str(folder / "server.conf") in args]


def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Starting its process fails for a while, as it does without descriptors; here its folder is away."""
    folder, away = tmp_path / "nats", tmp_path / "away"

    async def main() -> None:
        async with embedded_nats(folder, sync_s=2, limit_bytes=1 << 24) as address:
            folder.rename(away)
            for pid in _servers(folder):
                os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while "could not be started" not in caplog.text:
                    await asyncio.sleep(0.01)
            away.rename(folder)

            client = await nats.connect(
                address.url, token=address.token, max_reconnect_attempts=-1, reconnect_time_wait=0.05,
                error_cb=_ignore,
            )  # fmt: skip
            await client.close()
        assert [] == _servers(folder)

    run(main())


async def _ignore(_: Exception) -> None:
    """It is not there yet."""
