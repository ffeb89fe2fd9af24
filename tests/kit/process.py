"""A process provider on a state directory of its own, and functions for it from a few lines of source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tailrace import settings
from tailrace.build.bundle import pack_folder
from tailrace.model import FunctionSpec, LogLine
from tailrace.names import FunctionName
from tailrace.provider.process.provider import ProcessProvider
from tailrace.state import State, open_state

FAKE_RUNTIME = Path(__file__).parent.parent / "provider" / "fake_runtime"


@dataclass(frozen=True)
class House:
    """A provider, its state and everything it logged so far."""

    provider: ProcessProvider
    state: State
    work: Path
    logged: list[LogLine] = field(default_factory=list)

    def text(self, stream: str = "", instance: str = "") -> str:
        """What was logged on one stream (or all) by one instance (or all), as one text."""
        chosen = (line for line in self.logged if stream in ("", line.stream))
        return "".join(line.text for line in chosen if instance in ("", line.instance))

    async def deploy(
        self, name: str, handler: str, *, requirements: str = "", lang: str = "python3-flask"
    ) -> FunctionSpec:
        """The spec of a function whose handler.py has this source; its bundle is in the store."""
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "handler.py").write_text(handler)
        (folder / "requirements.txt").write_text(requirements)
        bundle = pack_folder(folder, lang=lang, limit_bytes=1 << 20)
        await self.provider.bundles.put(bundle.digest, _once(bundle.data))
        return FunctionSpec(FunctionName(name), f"{name}:latest", bundle.digest)


@asynccontextmanager
async def open_house(
    folder: Path,
    *,
    persistent: bool = True,
    runtime: Path | None = FAKE_RUNTIME,
    env: Mapping[str, str] | None = None,
    load_timeout_s: float = 60.0,
) -> AsyncIterator[House]:
    """A house below folder; everything in it is stopped at the end.

    Args:
        runtime: None is the real one, whose environment needs a package index or uv's cache.
    """
    (folder / "work").mkdir(exist_ok=True)
    chosen = settings.load({"load_timeout_s": load_timeout_s}, env={})
    logged: list[LogLine] = []
    with open_state(folder / "state") as state:
        provider = ProcessProvider(
            state, settings=chosen, log=logged.append, persistent=persistent, runtime=runtime, env=env
        )
        try:
            yield House(provider, state, folder / "work", logged)
        finally:
            await provider.aclose()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
