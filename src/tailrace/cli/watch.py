"""Saves of a project's files, as a stream of moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

# How long after a change the next one still belongs to the same save; editors write in bursts of a few ms.
_QUIET_MS = 20
_BURST_MS = 300
# A file's time is believed only this near to now: copied and checked-out files carry old ones.
_RECENT_S = 5.0


class Saves:
    """Collects changes; `wait` gives the moment (monotonic seconds) of the first one since the last wait."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._saved_at = 0.0

    def add(self, paths: Iterable[str]) -> None:
        """Note changes that were just seen."""
        if not self._changed.is_set():
            self._saved_at = min((_saved_at(path) for path in paths), default=time.monotonic())
            self._changed.set()

    async def wait(self) -> float:
        """Wait for a save; changes from before this call count."""
        await self._changed.wait()
        self._changed.clear()
        return self._saved_at


@asynccontextmanager
async def watching(saves: Saves, *, folders: Iterable[Path], files: Iterable[Path]) -> AsyncIterator[None]:
    """Report to ``saves`` while the context is open: everything below the folders, and the single files.

    Folders and files that do not exist are left out.
    """
    wanted = {path.absolute() for path in files}
    trees = [folder for folder in folders if folder.is_dir()]
    beside = {path.parent for path in wanted if path.parent.is_dir()}
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        if trees:
            group.create_task(_watch(saves, trees, DefaultFilter(), stop, recursive=True))
        if beside:
            group.create_task(_watch(saves, sorted(beside), _Only(wanted), stop, recursive=False))
        try:
            yield
        finally:
            stop.set()


async def _watch(
    saves: Saves, paths: list[Path], only: DefaultFilter, stop: asyncio.Event, *, recursive: bool
) -> None:
    found = awatch(
        *paths, watch_filter=only, debounce=_BURST_MS, step=_QUIET_MS, stop_event=stop, recursive=recursive
    )
    async for changes in found:
        saves.add(path for _, path in changes)


class _Only(DefaultFilter):
    """Lets these files through, also when an editor replaces them by renaming."""

    def __init__(self, wanted: set[Path]) -> None:
        super().__init__()
        self._wanted = {str(path) for path in wanted} | {str(path.resolve()) for path in wanted}

    def __call__(self, change: Change, path: str) -> bool:  # noqa: ARG002  # watchfiles' signature
        return path in self._wanted


def _saved_at(path: str) -> float:
    """When the file was written, as a monotonic moment; now when it tells no recent time."""
    now = time.monotonic()
    try:
        age_s = time.time() - Path(path).stat().st_mtime
    except OSError:
        return now
    return now - age_s if 0 <= age_s <= _RECENT_S else now
