"""Secrets as files: ``<folder>/<namespace>/<name>``, 0600, replaced atomically. Values never come back."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tailrace.errors import InvalidRequest, TooLarge
from tailrace.names import is_function_label, is_secret_name
from tailrace.provider.contract import SECRET_LIMIT
from tailrace.state import sync_folder, write_atomically


class SecretFiles:
    """The secrets in one folder, which must exist and be ours alone. Blocking; several threads may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Held from a look at what is there to its change. One gateway owns the folder: nobody else writes.
        self._changing = threading.Lock()

    def namespaces(self) -> list[str]:
        """The namespaces that hold secrets, sorted."""
        folders = [entry.name for entry in os.scandir(self._folder) if is_function_label(entry.name)]
        return sorted(name for name in folders if self.list(name))

    def list(self, namespace: str) -> list[str]:
        """The namespace's secrets, sorted.

        Raises:
            InvalidRequest: not a namespace's name.
        """
        folder = self._namespace(namespace)
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(folder) if is_secret_name(entry.name))

    def path(self, namespace: str, name: str) -> Path | None:
        """The secret's file; None when there is no such secret."""
        path = self._file(namespace, name)
        return path if path.is_file() else None

    def set(self, namespace: str, name: str, value: bytes, *, is_there: bool | None = None) -> bool:
        """Create or replace a secret; durable when it returns. False: nothing was written, see is_there.

        Args:
            is_there: True: only replace; False: only create; None: either.
        Raises:
            InvalidRequest: a name that cannot be a secret's or a namespace's.
            TooLarge: value has over 1 MiB.
        """
        path = self._file(namespace, name)
        if len(value) > SECRET_LIMIT:
            raise TooLarge(f"secret '{name}' has {len(value):,} bytes; at most {SECRET_LIMIT:,} are kept")
        with self._changing:
            if is_there not in (None, path.is_file()):
                return False
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, value, mode=0o600)
        return True

    def remove(self, namespace: str, name: str) -> bool:
        """Remove a secret, durably; False when it did not exist.

        Raises:
            InvalidRequest: a name that cannot be a secret's or a namespace's.
        """
        path = self._file(namespace, name)
        with self._changing:
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            sync_folder(path.parent)
        return True

    def _file(self, namespace: str, name: str) -> Path:
        if not is_secret_name(name):
            raise InvalidRequest(
                f"'{name[:80]}' cannot be a secret's name",
                hint="Use 1 to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit.",
            )
        return self._namespace(namespace) / name

    def _namespace(self, namespace: str) -> Path:
        if not is_function_label(namespace):
            raise InvalidRequest(f"'{namespace[:80]}' cannot be a namespace's name")
        return self._folder / namespace
