"""Connections to replicas: who makes one owns it, also when it is given up while it is made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tailrace.edge.pool import Pool
from tailrace.provider.contract import Address
from tests.kit.loops import run


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_given_up_while_it_is_made_is_closed(tmp_path: Path, turns: int) -> None:
    """The caller leaves after any number of turns of the loop: nothing stays open at the replica."""

    async def main() -> None:
        open_now: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_now.add(writer)
            await reader.read()
            open_now.discard(writer)
            writer.close()

        path = str(tmp_path / "r.sock")
        server = await asyncio.start_unix_server(serve, path)
        pool = Pool()
        for _ in range(20):
            connecting = asyncio.ensure_future(pool.connect(Address(path=path)))
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait([connecting])
            if not connecting.cancelled():
                connecting.result().abort()
        for _ in range(20):
            await asyncio.sleep(0.005)

        assert not open_now
        server.close()

    run(main())
