"""Namespaces as files: one JSON each, replaced atomically."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tailrace.model import Namespace
from tailrace.names import is_function_label
from tailrace.state import sync_folder, write_atomically


class NamespaceFiles:
    """The saved namespaces in one folder, which must exist and be ours alone. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> list[Namespace]:
        """All of them, sorted by name; one whose file is damaged is there without labels."""
        names = sorted(path.stem for path in self._folder.glob("*.json") if is_function_label(path.stem))
        return [self._read(name) for name in names]

    def save(self, namespace: Namespace) -> None:
        """Replace the namespace; durable when it returns."""
        plain = Namespace(namespace.name, dict(namespace.labels), dict(namespace.annotations))
        write_atomically(self._path(namespace.name), msgspec.json.encode(plain))

    def forget(self, name: str) -> bool:
        """Drop it, durably; False when there is none."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            return False
        sync_folder(self._folder)
        return True

    def _read(self, name: str) -> Namespace:
        try:
            found = msgspec.json.decode(self._path(name).read_bytes(), type=Namespace)
        except (OSError, msgspec.MsgspecError):
            return Namespace(name)
        return found if found.name == name else Namespace(name)

    def _path(self, name: str) -> Path:
        assert is_function_label(name), "a name that was never checked"
        return self._folder / f"{name}.json"
