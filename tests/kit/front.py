"""Caddy with its own certificate authority in front of an edge, and curl as a client of HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tailrace.front.caddy import in_front
from tailrace.settings import load
from tests.kit.edge import EdgeUnderTest, Script, edge_before
from tests.kit.needs import missing, needs_curl

LIMIT_S = 20.0


@dataclass(frozen=True)
class Front:
    """A running Caddy. ``told`` is what it had to say."""

    url: str
    root: Path
    under_test: EdgeUnderTest
    told: list[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that speaks HTTP/1.1."""
        context = ssl.create_default_context(cafile=str(self.root))
        return await asyncio.open_connection("localhost", self.port, ssl=context)

    @contextlib.asynccontextmanager
    async def curl(self, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A curl that trusts Caddy, its output unbuffered in pipes; killed at the end if it still runs."""
        process = await asyncio.create_subprocess_exec(
            http2_curl(), "--no-buffer", "--silent", "--show-error", "--cacert", self.root, *args,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root.parent)},
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT_S):
                yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


@contextlib.asynccontextmanager
async def front_before(script: Script, folder: Path) -> AsyncIterator[Front]:
    """An edge whose replica answers by ``script``, and Caddy in front of it."""
    flags = {"domain": "localhost:0", "auth": "true", "state_dir": str(folder)}
    told: list[str] = []
    async with (
        edge_before(script, domain=flags["domain"]) as under_test,
        in_front(load(flags, env={}), f"http://127.0.0.1:{under_test.port}", told.append) as url,
    ):
        yield Front(url, root_of(folder), under_test, told)


def root_of(state_dir: Path) -> Path:
    """The root certificate of Caddy's own authority."""
    return state_dir / "caddy/pki/authorities/local/root.crt"


def http2_curl() -> Path:
    """The path of a curl that speaks HTTP/2; skips (fails in CI) where there is none."""
    curl = needs_curl()
    about = subprocess.run([curl, "--version"], capture_output=True, text=True, timeout=10, check=True)
    if "HTTP2" not in about.stdout.split():
        missing(f"{curl} does not speak HTTP/2; to run this test, install one that does")
    return curl
