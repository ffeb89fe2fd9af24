"""What every archive from outside is held to while it is unpacked: plain names, files and folders only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from tailrace.build.tar import Member
from tailrace.errors import InvalidBundle

_COMPONENT_LIMIT = 255  # bytes; what ext4 and APFS take
_PATH_LIMIT = 1024  # bytes; macOS's PATH_MAX


def check_name(name: str) -> None:
    """Refuse a name that is not a plain relative path which every file system takes.

    Raises:
        InvalidBundle: it holds ``..``, a control character, a backslash, or is too long.
    """
    shown = name[:200].encode("unicode_escape").decode()
    if not name.isprintable() or "\\" in name:
        raise InvalidBundle(f"file name '{shown}' holds a character that is not accepted")
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidBundle(f"file name '{shown}' is not a plain relative path")
    if len(name.encode()) > _PATH_LIMIT or any(len(part.encode()) > _COMPONENT_LIMIT for part in parts):
        raise InvalidBundle(f"file name '{shown}' is too long")


def write_member(root: Path, path: str, member: Member, file: BinaryIO, *, is_durable: bool = True) -> None:
    """Write one member of an archive below root, read-only; file stands at its first byte.

    Args:
        is_durable: It is on the disk when this returns; folders are for the caller to sync.
    Raises:
        InvalidBundle: its name collides with one that was written, or the archive is cut short.
    """
    target = root / path
    try:
        if member.is_folder:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL: two names that this file system takes for one (case, Unicode forms) are refused.
        mode = 0o555 if member.is_executable else 0o444
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidBundle(f"bundle's '{path}' collides with another of its names") from exc
    with os.fdopen(handle, "wb") as out:
        left = member.size
        while left:
            data = file.read(min(left, 1 << 20))
            if not data:
                raise InvalidBundle("bundle is cut short")
            out.write(data)
            left -= len(data)
        out.flush()
        os.fchmod(out.fileno(), mode)  # whatever the umask is
        if is_durable:
            os.fsync(out.fileno())
