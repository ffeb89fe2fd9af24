"""The embedded NATS as a child of the gateway: what its keeper makes of a bad moment."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from pathlib import Path

import pytest

from tailrace.nats.embedded import embedded_nats
from tests.kit.limits import no_more_files
from tests.kit.loops import run
from tests.kit.ps import ps

pytestmark = pytest.mark.slow


def nats_pid(folder: Path) -> int:
    """Of the server whose configuration is in this folder."""
    found = [
        row for row in ps("-eo", "pid=,command=").splitlines() if str(folder) in row and "lifeline" not in row
    ]
    assert len(found) == 1, found
    return int(found[0].split()[0])


def test_a_nats_that_cannot_be_started_at_the_moment_is_started_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway that has no file left when its NATS dies has one again, and then runs are kept again."""

    async def main() -> None:
        async with embedded_nats(tmp_path / "nats", sync_s=2, limit_bytes=64 << 20) as address:
            pid = nats_pid(tmp_path)
            with caplog.at_level(logging.WARNING), no_more_files():
                os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(10):
                    while "cannot be started now" not in caplog.text:
                        await asyncio.sleep(0.01)

            host, port = re.findall(r"//(.*):(\d+)", address.url)[0]
            async with asyncio.timeout(20):
                while True:
                    try:
                        _, writer = await asyncio.open_connection(host, int(port))
                    except OSError:
                        await asyncio.sleep(0.01)
                        continue
                    writer.close()
                    break

    run(main())
