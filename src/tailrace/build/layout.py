"""Where an image would have a context's files, brought about inside the context's own folder."""

from __future__ import annotations

import fnmatch
import posixpath
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tailrace.build.assembly import relative_place
from tailrace.build.bundle import MAX_FILES
from tailrace.build.dockerfile import Dockerfile
from tailrace.errors import InvalidBundle, TooLarge


def local_path(path: str, workdir: str) -> str:
    """A path of the image below its working folder, as one below the bundle's; others as they are."""
    if workdir in ("", "/"):
        return path
    if path == workdir:
        return "."
    return f"./{path.removeprefix(f'{workdir}/')}" if path.startswith(f"{workdir}/") else path


def find_copies(folder: Path, image: Dockerfile) -> tuple[tuple[str, str], ...]:
    """What the image has at another place of its working folder than the context has it: from, and to.

    Both are relative to the context, '' is all of it. What is copied elsewhere in the image is left out.

    Raises:
        InvalidBundle: a ``COPY`` names a path that cannot be.
    """
    return tuple(_find_copies(folder, image))


def make_copies(folder: Path, copies: Sequence[tuple[str, str]], *, limit_bytes: int) -> None:
    """Copy inside the folder, in their order; what is at a target is replaced.

    Raises:
        InvalidBundle: over 10,000 files, or one stands where a folder has to be.
        TooLarge: they have over limit_bytes together.
    """
    wanted: list[tuple[Path, Path]] = []
    left = limit_bytes
    for source, to in copies:
        top = folder / source
        files = [path for path in top.rglob("*") if path.is_file()] if top.is_dir() else [top]
        left -= sum(file.stat().st_size for file in files)
        if left < 0:
            raise TooLarge(f"what the Dockerfile copies is over {limit_bytes:,} bytes")
        wanted += [(file, folder / to / file.relative_to(top)) for file in files]
        if len(wanted) > MAX_FILES:
            raise InvalidBundle(f"the Dockerfile copies over {MAX_FILES:,} files")
    for file, target in wanted:
        if target == file or target.is_dir():
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(file, target)
        except OSError as failed:
            raise InvalidBundle(
                f"the Dockerfile's copy of '{file.name}' fails: {failed.strerror}"
            ) from failed


def _find_copies(folder: Path, image: Dockerfile) -> Iterator[tuple[str, str]]:
    below = image.workdir.rstrip("/") + "/"
    for copy in image.copies:
        if not f"{copy.target.rstrip('/')}/".startswith(below):
            continue
        target = copy.target[len(below) :].lstrip("/")
        is_folder = not target or target.endswith("/")
        for source in _matching(folder, copy.source):
            is_file = not (folder / source).is_dir()
            to = f"{target}{PurePosixPath(source).name}" if is_file and is_folder else target.rstrip("/")
            if to != source:
                yield source, relative_place(to, f"COPY's target '{to[:80]!a}'") if to else to


def _matching(folder: Path, pattern: str) -> list[str]:
    """Files and folders of the context that a ``COPY`` means; none outside."""
    plain = relative_place(pattern.lstrip("/"), f"COPY's source '{pattern[:80]!a}'")
    if plain == ".":
        return [""]
    parent, name = posixpath.split(plain)
    if not any(c in name for c in "*?["):
        return [plain] if (folder / plain).exists() else []
    if not (folder / parent).is_dir():
        return []
    names = sorted(entry.name for entry in (folder / parent).iterdir())
    return [posixpath.join(parent, found) for found in fnmatch.filter(names, name)]
