"""Make ``/var/openfaas/secrets/<name>`` reach a function's secrets, wherever their files really are.

The replica is an ordinary process that cannot mount anything, so Python's own ways to a file are
wrapped: ``open``, ``io.open``, ``os.open``, ``os.stat``, ``os.lstat``, ``os.access``, ``os.listdir``
and ``os.scandir``, through which ``os.path``, ``pathlib``, ``glob`` and ``os.walk`` go too. A subprocess
or a C library does not see the folder. Any other path costs one comparison of a prefix.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

FOLDER: Final = "/var/openfaas/secrets"
_WITH_SLASH: Final = FOLDER + "/"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class SecretFiles:
    """The wrapped calls. ``install`` puts them in place for the whole process; there is no way back.

    Args:
        files: Path of each secret's file, by name. Read at each access, so a changed value is seen.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = dict(files)

    def install(self) -> None:
        """Replace the calls; nothing happens for a function without secrets."""
        if not self._files:
            return
        builtins.open = io.open = self._open(builtins.open)  # type: ignore[assignment]  # takes what open takes
        for name, wrap in (
            ("open", self._os_open),
            ("stat", self._mapped),
            ("lstat", self._mapped),
            ("access", self._access),
            ("listdir", self._listdir),
            ("scandir", self._scandir),
        ):
            real = getattr(os, name)
            wrapped = wrap(real)
            setattr(os, name, wrapped)
            for able in (
                os.supports_fd,
                os.supports_dir_fd,
                os.supports_effective_ids,
                os.supports_follow_symlinks,
            ):
                if real in able:  # shutil asks these sets what the calls can do
                    able.add(wrapped)

    def find(self, path: object) -> str | None:
        """Where path really is when it names the folder or a secret in it; None for any other."""
        if not isinstance(path, str):
            if isinstance(path, int) or path is None:
                return None
            try:
                path = os.fsdecode(path)  # type: ignore[arg-type]  # a TypeError is answered below
            except (TypeError, ValueError):
                return None
        if not path.startswith(FOLDER):
            return None
        tidy = os.path.normpath(path)
        if tidy == FOLDER:
            return next(iter(self._files.values())).rpartition("/")[0] or "/"
        return self._files.get(tidy.removeprefix(_WITH_SLASH))

    def _is_folder(self, path: object) -> bool:
        return (
            isinstance(path, (str, os.PathLike))
            and (text := os.fspath(path)).__class__ is str
            and text.startswith(FOLDER)
            and os.path.normpath(text) == FOLDER
        )

    def _open(self, real: Callable[..., object]) -> Callable[..., object]:
        def open(file: object, mode: str = "r", *args: object, **kwargs: object) -> object:
            found = self.find(file)
            if found is None:
                return real(file, mode, *args, **kwargs)
            if any(letter in mode for letter in "wax+"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), file)
            return real(found, mode, *args, **kwargs)

        return open

    def _os_open(self, real: Callable[..., object]) -> Callable[..., object]:
        def open(path: object, flags: int, *args: object, **kwargs: object) -> object:
            found = self.find(path)
            if found is None:
                return real(path, flags, *args, **kwargs)
            if flags & _WRITING:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
            return real(found, flags, *args, **kwargs)

        return open

    def _mapped(self, real: Callable[..., object]) -> Callable[..., object]:
        def mapped(path: object, *args: object, **kwargs: object) -> object:
            return real(self.find(path) or path, *args, **kwargs)

        return mapped

    def _access(self, real: Callable[..., bool]) -> Callable[..., bool]:
        def access(path: object, mode: int, *args: object, **kwargs: object) -> bool:
            found = self.find(path)
            if found is not None and mode & os.W_OK:
                return False
            return real(found or path, mode, *args, **kwargs)

        return access

    def _listdir(self, real: Callable[..., list[str]]) -> Callable[..., list[str]]:
        def listdir(path: object = ".") -> list[str]:
            return list(self._files) if self._is_folder(path) else real(path)

        return listdir

    def _scandir(self, real: Callable[..., object]) -> Callable[..., object]:
        def scandir(path: object = ".") -> object:
            return _Entries(self._files) if self._is_folder(path) else real(path)

        return scandir


class _Entry:
    """A secret as ``os.DirEntry`` shows a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _WITH_SLASH + name

    def __fspath__(self) -> str:
        return self.path

    def is_file(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002  # os.DirEntry's signature
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002  # os.DirEntry's signature
        return False

    def is_symlink(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(self.path, follow_symlinks=follow_symlinks)  # noqa: PTH116  # what is wrapped here

    def inode(self) -> int:
        return self.stat().st_ino


class _Entries:
    """What ``os.scandir`` gives: an iterator that is also a context manager."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._left: Iterator[str] = iter(list(names))

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> _Entry:
        return _Entry(next(self._left))

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open."""
