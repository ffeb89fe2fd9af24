"""The copy of the runtime package that replicas run: complete, compiled, and out of the way of upgrades."""

from __future__ import annotations

import asyncio
import compileall
import hashlib
import importlib.util
import os
import py_compile
import tempfile
from pathlib import Path

from tailrace.build.requirements import Requirements, read_requirements
from tailrace.errors import PlatformError
from tailrace.state import TEMPORARY, remove_tree, sync_folder

PACKAGE = "tailrace_runtime"
_MAIN = f"from {PACKAGE}.main import main\n\nmain()\n"


def find_runtime() -> Path:
    """The folder of the runtime package that is installed beside tailrace; nothing of it is imported.

    Raises:
        PlatformError: it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise PlatformError(
            f"package '{PACKAGE}' is not installed beside tailrace", hint="Reinstall tailrace."
        )
    return Path(found.origin).parent


class RuntimeCopy:
    """One copy of the package at source below folder, named by the hash of its content."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder = folder
        self._source = source
        self._making: asyncio.Task[Path] | None = None

    def requirements(self) -> Requirements:
        """What the runtime needs in every function's environment."""
        return read_requirements(self._source / "requirements.txt")

    async def ensure(self) -> Path:
        """The folder to start as ``python <folder>``; the first call makes it and removes older copies.

        Callers share one making, which goes on when all of them are cancelled: a thread cannot be stopped.

        Raises:
            OSError: it cannot be written. The next call tries again.
        """
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make), name="copy of the runtime")
            self._making.add_done_callback(self._forget_failure)
        return await asyncio.shield(self._making)

    def _forget_failure(self, making: asyncio.Task[Path]) -> None:
        if making.cancelled() or making.exception() is not None:
            self._making = None

    def _make(self) -> Path:
        files = {path.relative_to(self._source): path.read_bytes() for path in self._own_files()}
        seen = hashlib.sha256(importlib.util.MAGIC_NUMBER + _MAIN.encode())
        for name in sorted(files):
            seen.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
        place = self._folder / seen.hexdigest()[:16]
        if not place.is_dir():
            self._write(place, files)
        for other in self._folder.iterdir():
            # Half-made folders are for open_state to clear: here one may still be another thread's.
            if other != place and not other.name.startswith(TEMPORARY):
                remove_tree(other)
        return place

    def _own_files(self) -> list[Path]:
        found = [path for path in self._source.rglob("*") if path.suffix in (".py", ".cjs")]
        return [path for path in found if "__pycache__" not in path.parts]

    def _write(self, place: Path, files: dict[Path, bytes]) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self._folder))
        try:
            self._fill(temporary, files)
            temporary.rename(place)
        except BaseException:
            remove_tree(temporary)
            raise
        place.chmod(0o555)
        sync_folder(self._folder)

    def _fill(self, temporary: Path, files: dict[Path, bytes]) -> None:
        for name, data in files.items():
            target = temporary / PACKAGE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (temporary / "__main__.py").write_text(_MAIN)
        # Unchecked: the copy never changes, so starts need not look at the sources.
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(temporary, quiet=2, invalidation_mode=unchecked)
        for folder, _, names in os.walk(temporary, topdown=False):
            for file in names:
                Path(folder, file).chmod(0o444)
            sync_folder(Path(folder))
            Path(folder).chmod(0o700 if Path(folder) == temporary else 0o555)
