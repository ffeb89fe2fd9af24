"""How a gateway ends, at full length: acceptance 5."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.kit.cli import Shell
from tests.kit.loops import run
from tests.kit.served import Caller, Serve

pytestmark = pytest.mark.soak

HANDLER = """
import asyncio

async def handle(event, context):
    for i in range(int(event.query["n"])):
        yield str(i)
        await asyncio.sleep(0.1)
"""


def test_50_streams_of_10_s_finish_after_sigterm(tmp_path: Path) -> None:
    """All 50 have every event and their clean end; the gateway ends with exit code 0 when they have."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")

    async def main() -> None:
        with serve.start() as (running, url):
            serve.deploy(url, "talk", HANDLER)
            streams = (Caller.stream(url, "/function/talk?n=100") for _ in range(50))
            callers = await asyncio.gather(*streams)

            running.process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            texts = await asyncio.gather(*(caller.read_rest() for caller in callers))
            took_s = time.monotonic() - begin
            code = await asyncio.to_thread(running.wait_end)

            assert (0, True) == (code, took_s > 9.0)
            assert [100] * 50 == [sum(f"data: {i}\n\n" in text for i in range(100)) for text in texts]
            assert 50 == sum(text.count("event: end\ndata: {}\n\n") == 1 for text in texts)

    run(main())
