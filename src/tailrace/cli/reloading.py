"""A running gateway takes new settings, and `tailrace reload` learns what it came to through a file.

The file, ``reload.json`` in the state directory, names the gateway that reloads at SIGHUP. Without it nobody
sends one: it would end `tailrace up`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.cli.result import error_for
from tailrace.errors import TailraceError
from tailrace.state import TEMPORARY

if TYPE_CHECKING:
    from tailrace.settings import Settings

_NAME = "reload.json"


@dataclass(frozen=True, slots=True)
class Report:
    """How often a gateway has reloaded, and what the last time came to."""

    pid: int
    count: int = 0
    is_done: bool = True
    text: str = ""


class Reloads:
    """Reads settings again, puts them in force, and reports.

    Args:
        load: Reads them; raises a TailraceError for what is wrong.
        apply: Puts them in force; raises a TailraceError when it cannot, and has then changed nothing.
        tell: Takes each report's text, for the log.
        check: Raises a TailraceError for settings that a start would refuse.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[], Settings],
        apply: Callable[[Settings], None],
        tell: Callable[[str], None],
        check: Callable[[Settings], None],
    ) -> None:
        self._settings = settings
        self._load = load
        self._apply = apply
        self._tell = tell
        self._check = check
        self._count = 0

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """`tailrace reload` finds this process while the context is open."""
        path = self._settings.state_dir / _NAME
        self._report("", is_done=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def reload(self) -> None:
        """Once, now. What is wrong is told; then the old settings stay, all of them."""
        self._count += 1
        try:
            text, is_done = self._take(), True
        except (TailraceError, OSError, RuntimeError) as failed:
            error = error_for(failed)
            why = error.text if error else str(failed)
            text, is_done = f"not reloaded, the settings stay as they are: {why}", False
        self._tell(text)
        self._report(text, is_done=is_done)

    def _take(self) -> str:
        from tailrace.cli.settingsview import merge

        wished = self._load()
        self._check(wished)
        merged = merge(self._settings, wished)
        self._apply(merged.settings)
        self._settings = merged.settings
        lines = merged.changed or ["no setting changed"]
        if merged.settings.tls_cert:
            lines = [*lines, "certificate and key read again"]
        return "\n".join(
            ["settings reloaded", *lines, *(f"needs a restart: {line}" for line in merged.waiting)]
        )

    def _report(self, text: str, *, is_done: bool) -> None:
        report = Report(os.getpid(), self._count, is_done, text)
        try:
            _write(report, self._settings.state_dir)
        except OSError as failed:  # a disk that is full ends no stream
            self._tell(f"`tailrace reload` cannot be told, {_NAME} cannot be written: {failed.strerror}")


def _write(report: Report, folder: Path) -> None:
    """Whole for its readers; not durable, which could keep every stream waiting for a disk."""
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(report), file)
        Path(temporary).replace(folder / _NAME)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_report(state_dir: Path) -> Report | None:
    """What the gateway of this state directory wrote last; None when none there reloads."""
    try:
        found = json.loads((state_dir / _NAME).read_bytes())
        return Report(int(found["pid"]), int(found["count"]), bool(found["is_done"]), str(found["text"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
