"""Bundles: a handler folder as one deterministic tar, and its careful unpacking.

A bundle holds ``tailrace.json`` (``{"format":1,"lang":"python3-flask"}``) and ``function/**``. The same
folder gives the same bytes, so its SHA-256 names it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tailrace.build.extract import check_name, write_member
from tailrace.build.requirements import Requirements, read_requirements
from tailrace.build.tar import Member, read_members
from tailrace.errors import InvalidBundle, TooLarge
from tailrace.state import sync_folder

MANIFEST = "tailrace.json"
FOLDER = "function"
# Where `from function import handler` finds it.
HANDLERS = (f"{FOLDER}/handler.py", f"{FOLDER}/handler/__init__.py")
REQUIREMENTS_FILE = "requirements.txt"
MAX_FILES = 10_000
_MANIFEST_LIMIT = 64 * 1024
_MODES = ("http", "streaming", "serializing", "static")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__", ".git", ".hg", ".svn", ".venv", "venv", "node_modules", ".tox",
        ".mypy_cache", ".pytest_cache", ".ruff_cache",
    }
)  # fmt: skip
# Where people keep passwords beside code: whoever can read a bundle could read them.
_SECRETS_FOLDER = ".secrets"
_VARIABLES = ".env"
# Byte code, and what editors and desktops leave beside a file while it is open.
_SKIPPED_ENDINGS = (".pyc", ".swp", "~")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packed handler folder: the tar's bytes and their SHA-256 as 64 hex digits."""

    digest: str
    data: bytes = field(repr=False)


class Process(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a function that brings its own process is run, under the watchdog, in its bundle's ``function/``.

    Attributes:
        fprocess: The command, split at blanks, as of-watchdog has it.
        mode: ``http``, ``streaming``, ``serializing`` or ``static``.
        upstream_url: Where the process of mode ``http`` listens, as its author wrote it.
        env: Variables that its Dockerfile sets; those of the deployment come after them.
        requirements: Requirement files, relative to ``function/``, for its virtualenv; none: no virtualenv.
    """

    fprocess: str
    mode: str = "http"
    upstream_url: str = ""
    env: dict[str, str] = {}  # msgspec copies it
    requirements: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``tailrace.json`` says.

    ``lang`` names the template that runs the handler; with a ``process`` it only says where that came from.
    ``index`` names the private package index of its requirements, if there was one.
    """

    format: int
    lang: str
    process: Process | None = None
    index: str = ""


def pack_folder(
    folder: Path, *, lang: str, limit_bytes: int, process: Process | None = None, index: str = ""
) -> Bundle:
    """The folder as a bundle: sorted, without times, owners, caches, editors' files, `.secrets` and `.env`.

    A link that points inside the folder is packed as what it points at.

    Args:
        process: How it is run when it brings its own process; then ``node_modules`` is packed too.
        index: The name of the private package index that its requirements come from.
    Raises:
        InvalidBundle: no handler in it; a link that points outside, nowhere or at its own parent; a file
            that is neither regular nor folder; over 10,000 files.
        TooLarge: over limit_bytes.
    """
    if not folder.is_dir():
        raise InvalidBundle(f"handler folder '{folder}' does not exist")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        manifest = msgspec.json.encode(Manifest(1, lang, process, index))
        if len(manifest) > _MANIFEST_LIMIT:
            raise InvalidBundle(f"what the function's process is told is over {_MANIFEST_LIMIT:,} bytes")
        tar.addfile(_header(MANIFEST, len(manifest)), io.BytesIO(manifest))
        names = []
        for path, name in walk(folder, with_modules=process is not None):
            names.append(name)
            if len(names) > MAX_FILES:
                raise InvalidBundle(f"handler folder '{folder}' holds over {MAX_FILES:,} files")
            _add(tar, path, name, limit_bytes)
            if out.tell() > limit_bytes:
                raise _too_large(name, limit_bytes)
    if process is None:
        _check_handler(names)
    else:
        check_process(process)
    data = out.getvalue()
    return Bundle(hashlib.sha256(data).hexdigest(), data)


def unpack(tar_path: Path, destination: Path, *, limit_bytes: int) -> Manifest:
    """Write the bundle's files below destination, which must not exist; read-only and durable at the end.

    The caller gives a temporary destination and renames it: after an error it is half-written.

    Raises:
        InvalidBundle: anything in it that is not a plain file or folder below ``function/``, a name that
            is odd or comes twice, over 10,000 members, no handler, no readable ``tailrace.json``.
        TooLarge: the files have over limit_bytes together.
    """
    destination.mkdir(mode=0o700)
    seen: set[str] = set()
    left = limit_bytes
    with tar_path.open("rb") as file:
        for member in read_members(file):
            path = _check_path(member)
            if path in seen:
                raise InvalidBundle(f"bundle holds '{path}' twice")
            seen.add(path)
            if len(seen) > MAX_FILES + 1:
                raise InvalidBundle(f"bundle holds over {MAX_FILES:,} files")
            left -= member.size
            if left < 0:
                raise _too_large(path, limit_bytes)
            write_member(destination, path, member, file)
    manifest = read_manifest(destination)
    if manifest.process is None:
        _check_handler(sorted(seen))
    else:
        check_process(manifest.process)
    _close_folders(destination)
    return manifest


def read_manifest(root: Path) -> Manifest:
    """The manifest of the bundle unpacked at root.

    Raises:
        InvalidBundle: it is missing, cannot be read, or is of a later format.
    """
    try:
        with (root / MANIFEST).open("rb") as file:
            manifest = msgspec.json.decode(file.read(_MANIFEST_LIMIT), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidBundle(
            f"bundle has no readable {MANIFEST}: {exc}",
            hint=f'Expected: {{"format":1,"lang":"python3-flask"}} in {MANIFEST}, then {FOLDER}/.',
        ) from exc
    if manifest.format != 1 or not 0 < len(manifest.lang) <= 64 or len(manifest.index) > 64:
        raise InvalidBundle(f"bundle is of format {manifest.format}; this Tailrace reads format 1")
    return manifest


def bundle_requirements(root: Path, manifest: Manifest) -> Requirements:
    """What the bundle unpacked at root wants in its environment.

    Raises:
        InvalidBundle: a list is not what is supported.
    """
    return folder_requirements(root / FOLDER, manifest.process, index=manifest.index)


def folder_requirements(folder: Path, process: Process | None, *, index: str = "") -> Requirements:
    """As `bundle_requirements`, of what is packed as ``function/``."""
    files = [REQUIREMENTS_FILE] if process is None else process.requirements
    lines = {line for file in files for line in read_requirements(folder / file).lines}
    return Requirements(tuple(sorted(lines, key=lambda line: (not line.startswith("-"), line))), index)


def walk(folder: Path, *, with_modules: bool) -> Iterator[tuple[Path, str]]:
    """Every file and folder that is packed, sorted, as (path to read, name in the bundle).

    Args:
        with_modules: ``node_modules`` is among them.
    Raises:
        InvalidBundle: a name that cannot travel, or a link that leads outside, nowhere or in circles.
    """
    skipped = _SKIPPED_FOLDERS - {"node_modules"} if with_modules else _SKIPPED_FOLDERS
    yield folder, FOLDER
    yield from _walk_below(folder, FOLDER, (folder.resolve(),), skipped)


def note_left_out(*folders: Path) -> tuple[str, ...]:
    """What to tell the person of what `walk` leaves out of these folders because passwords are kept there."""
    found: dict[str, None] = {}
    for top in folders:
        for at, inner, files in os.walk(top):
            names = sorted(name for name in (*inner, *files) if _is_secret(name))
            found |= dict.fromkeys(os.path.relpath(Path(at, name), top) for name in names)
            inner[:] = sorted(name for name in inner if name not in _SKIPPED_FOLDERS and not _is_secret(name))
    if not found:
        return ()
    named = ", ".join([*found][:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return (f"not uploaded: {named}; values come from `secrets`, `environment` and `environment_file`",)


def _walk_below(
    folder: Path, name: str, parents: tuple[Path, ...], skipped: frozenset[str]
) -> Iterator[tuple[Path, str]]:
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name in skipped or _is_litter(entry.name) or _is_secret(entry.name):
            continue
        entry_name = f"{name}/{entry.name}"
        check_name(entry_name)
        if entry.is_symlink():
            _check_link(entry, parents[0])
        if not entry.is_dir():
            yield entry, entry_name
            continue
        real = entry.resolve()
        if real in parents:
            raise InvalidBundle(f"link '{entry}' points at a folder that holds it")
        yield entry, entry_name
        yield from _walk_below(entry, entry_name, (*parents, real), skipped)


def _is_secret(name: str) -> bool:
    return name in (_SECRETS_FOLDER, _VARIABLES) or name.startswith(f"{_VARIABLES}.")


def _is_litter(name: str) -> bool:
    return name.endswith(_SKIPPED_ENDINGS) or name.startswith(".#") or name == ".DS_Store"


def _check_link(link: Path, top: Path) -> None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        raise InvalidBundle(f"link '{link}' points nowhere", hint="Remove it or mend its target.") from exc
    if not target.is_relative_to(top):
        raise InvalidBundle(
            f"link '{link}' points out of the handler folder",
            hint="Only the folder is uploaded. Copy it in, or name it in configuration.copy of stack.yaml.",
        )


def _add(tar: tarfile.TarFile, path: Path, name: str, limit_bytes: int) -> None:
    if path.is_dir():
        header = tarfile.TarInfo(name)
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(header)
        return
    # Opening a named pipe would wait for its writer; O_NONBLOCK lets the check below see it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise InvalidBundle(f"'{path}' is neither a file nor a folder", hint="Move it out of the folder.")
        if found.st_size > limit_bytes:
            raise _too_large(name, limit_bytes)
        data = file.read(limit_bytes + 1)  # it may grow while it is read
    header = _header(name, len(data))
    header.mode = 0o755 if found.st_mode & 0o100 else 0o644
    tar.addfile(header, io.BytesIO(data))


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header


def _check_path(member: Member) -> str:
    """The member's path without a folder's trailing slash, known to lie where bundles keep things."""
    path = member.path.removeprefix("./")
    if member.is_folder:
        path = path.rstrip("/")
    check_name(path)
    inside = path.startswith(f"{FOLDER}/") or (path == FOLDER and member.is_folder)
    if not inside and not (path == MANIFEST and not member.is_folder):
        raise InvalidBundle(f"bundle holds '{path}'; only {MANIFEST} and {FOLDER}/ belong in it")
    return path


def _close_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        sync_folder(Path(folder))
        # The root itself must stay writable until its rename: macOS refuses to move a read-only folder.
        Path(folder).chmod(0o700 if Path(folder) == root else 0o555)


def check_process(process: Process) -> None:
    """Refuse a process that the watchdog could not run, whatever its files are.

    Raises:
        InvalidBundle: no command, a mode that the watchdog does not have, a variable that cannot be set.
    """
    if process.mode not in _MODES:
        raise InvalidBundle(
            f"mode '{process.mode[:40]}' is none of the watchdog's here; it has {', '.join(_MODES)}"
        )
    if not process.fprocess.strip() and process.mode != "static":
        raise InvalidBundle("bundle names no fprocess: the command that answers its calls")
    for name, value in process.env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise InvalidBundle(f"variable '{name[:80]!a}' of the function's process cannot be set")
    if "\0" in process.fprocess + process.upstream_url:
        raise InvalidBundle("fprocess or upstream_url holds a NUL")
    for file in process.requirements:
        check_name(file)


def _check_handler(names: list[str]) -> None:
    if any(handler in names for handler in HANDLERS):
        return
    found = [name.removeprefix(f"{FOLDER}/") for name in names if name.endswith(".py")][:5]
    there = f"found: {', '.join(found)}" if found else "it holds no Python file"
    raise InvalidBundle(
        f"handler folder has no 'handler.py' (or 'handler/__init__.py'); {there}",
        hint="Name the file with the handle function 'handler.py', at the top of the folder.",
    )


def _too_large(name: str, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"handler folder is over {limit_bytes:,} bytes packed (at '{name}')",
        hint="Move data out of the folder, or raise TAILRACE_BUNDLE_LIMIT on the gateway.",
    )
