"""The state directory: who owns it, which folders it has, and the short folder for sockets outside it."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tailrace.errors import PlatformError, StateTaken

# Half-made files and folders begin so. Nothing else does: no digest, function or secret starts with a dot.
TEMPORARY = ".tmp-"
# A unix socket's path has 104 bytes on macOS (108 on Linux) with its NUL; 30 of them are for the file
# name: a replica id of at most 24 characters and ".sock".
_SOCKETS_PATH_LIMIT = 104 - 1 - 30
_FOLDERS = ("builds", "bundles", "environments", "functions", "namespaces", "replicas", "runtime", "secrets")


@dataclass(frozen=True, slots=True)
class State:
    """The folders of a state directory that this process owns. Build it with `open_state`."""

    path: Path
    # Short, 0700 and outside of path: what lies there is gone at close and cleared at open.
    sockets: Path

    @property
    def bundles(self) -> Path:
        return self.path / "bundles"

    @property
    def builds(self) -> Path:
        """What the remote builder has received and not built yet; half-made, so cleared at open."""
        return self.path / "builds"

    @property
    def environments(self) -> Path:
        return self.path / "environments"

    @property
    def functions(self) -> Path:
        return self.path / "functions"

    @property
    def namespaces(self) -> Path:
        return self.path / "namespaces"

    @property
    def replicas(self) -> Path:
        """Home and temporary folders of replicas, one folder each; cleared at open and at close."""
        return self.path / "replicas"

    @property
    def runtime(self) -> Path:
        return self.path / "runtime"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that owns a state directory, as it has written itself down."""

    pid: int
    since: str
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid}, since {self.since}: {self.command}"


@contextmanager
def open_state(path: Path) -> Iterator[State]:
    """Own the state directory at path, made (0700) when it is missing, until the context is left.

    What an earlier owner left half-made, and its sockets, are cleared away at open.

    Raises:
        StateTaken: another gateway owns it; the text names its pid, start and command.
        PlatformError: it cannot be made, or it or the folder for sockets belongs to somebody else.
    """
    root = _own_folder(path.expanduser().absolute())
    lock = _take_lock(root)
    try:
        sockets = _open_sockets(root)
        try:
            state = State(root, sockets)
            for name in _FOLDERS:
                _own_folder(root / name)
            _clear_stale(state)
            yield state
        finally:
            remove_tree(sockets)
            _empty(root / "replicas")
    finally:
        # The file stays: removing it would let two owners lock two files of one name.
        os.ftruncate(lock, 0)
        os.close(lock)


def find_owner(path: Path) -> Owner | None:
    """Who owns the state directory now; None when nobody does.

    Raises:
        PlatformError: this user may not look.
    """
    try:
        handle = os.open(path.expanduser().absolute() / "lock", os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise PlatformError(f"state directory '{path}' cannot be looked into: {exc.strerror}") from exc
    try:
        owner = _read_owner(handle)
        # The file outlives an owner that was killed; the lock does not. It is tried only with an owner
        # written down, so that who is about to take it hardly ever finds us holding it for an instant.
        if owner is None or _is_free(handle) or _read_owner(handle) != owner:
            return None
        return owner
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file at path; readers see the old bytes or the new ones. Durable when it returns."""
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the folder's own entries (new names, renames) durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Remove a file or folder with all it holds, read-only folders too. Links are removed, not followed.

    Nothing happens when it does not exist; what cannot be removed is left.
    """

    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            path.unlink()
        return
    with suppress(OSError):
        path.chmod(0o700)
    # Top down: each folder is made listable before the walk goes into it.
    for folder, names, _ in os.walk(path):
        for child in (Path(folder, name) for name in names):
            with suppress(OSError):
                if not child.is_symlink():
                    child.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def _own_folder(path: Path) -> Path:
    """The folder, made when missing, ours, and closed to everybody else."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o700)
            return path
    except OSError as exc:
        raise PlatformError(
            f"state directory '{path}' cannot be used: {exc.strerror or exc}",
            hint="Choose another one with TAILRACE_STATE_DIR.",
        ) from exc
    raise PlatformError(
        f"state directory '{path}' belongs to another user (uid {path.stat().st_uid})",
        hint="Choose another one with TAILRACE_STATE_DIR.",
    )


def _take_lock(root: Path) -> int:
    """The descriptor that holds the lock; closing it (or dying) gives the lock up."""
    handle = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _read_owner(handle) or "it has not told its pid yet"  # between its lock and its first write
        os.close(handle)
        raise StateTaken(
            f"state directory '{root}' belongs to a gateway that is running: {owner}",
            hint="Stop that one, or give this one its own: --state-dir DIR or TAILRACE_STATE_DIR.",
        ) from None
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": now, "command": command}).encode(), 0)
    return handle


def _read_owner(lock: int) -> Owner | None:
    try:
        owner = json.loads(os.pread(lock, 4096, 0))
        return Owner(int(owner["pid"]), str(owner["since"]), str(owner["command"]))
    except (ValueError, KeyError, TypeError):
        return None


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_sockets(root: Path) -> Path:
    tag = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:8]
    folder = _sockets_base() / f"tr-{os.geteuid()}-{tag}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PlatformError(
            f"'{folder}', the folder for this gateway's sockets, belongs to somebody else or is a link",
            hint="Remove it, or point XDG_RUNTIME_DIR at a short folder that is only yours.",
        )
    folder.chmod(0o700)
    _empty(folder)
    return folder


def _sockets_base() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    name_bytes = len(f"/tr-{os.geteuid()}-12345678")
    if given.startswith("/") and len(os.fsencode(given)) + name_bytes <= _SOCKETS_PATH_LIMIT:
        with suppress(OSError):
            found = Path(given).stat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and os.access(given, os.W_OK):
                return Path(given)
    return Path("/tmp")  # noqa: S108  # not TMPDIR: macOS's is 49 bytes; ours is made 0700 and checked


def _clear_stale(state: State) -> None:
    _empty(state.replicas)
    # Tags and secrets lie one folder deeper than what else is written by a rename.
    below = [state.bundles / "tags", *state.secrets.iterdir()]
    for folder in (state.path, *(state.path / name for name in _FOLDERS), *below):
        if folder.is_dir() and not folder.is_symlink():
            for entry in folder.iterdir():
                if entry.name.startswith(TEMPORARY):
                    remove_tree(entry)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        remove_tree(entry)
