"""A strict reader of uncompressed tar: regular files and folders, nothing else.

The standard library's reader accepts far more (links, devices, sparse files that unpack to terabytes,
nested global headers, negative sizes), and a bundle comes from outside. This one reads what `pack_folder`
writes, and what GNU tar and Python write for the same content; anything else is refused by name.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tailrace.errors import InvalidBundle

BLOCK = 512
_KINDS = {b"0": "file", b"\0": "file", b"5": "folder"}
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"g": "a global header",
    b"S": "a sparse file",
}
# A path may have 4096 bytes and pax adds a few keys of times and owners.
_PAX_LIMIT = 16 * 1024
# What a pax header may say beside the path: nothing that changes where or how much is written.
_PAX_HARMLESS = frozenset({"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "charset"})


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder. Its ``size`` bytes are read from the same file before the next member is taken."""

    path: str
    is_folder: bool
    is_executable: bool
    size: int


def read_members(file: BinaryIO) -> Iterator[Member]:
    """The members in their order; the file stands at a member's first byte while it is the current one.

    The caller reads all of ``size`` bytes or none. Paths are as written: the caller judges them.

    Raises:
        InvalidBundle: not a tar, cut short, or a member that is neither file nor folder.
    """
    long_path: str | None = None
    while True:
        block = file.read(BLOCK)
        if block == bytes(BLOCK):
            return
        member, kind = _parse_header(block)
        if kind == b"x":
            long_path = _read_pax_path(file, member.size)
            continue
        if kind not in _KINDS:
            what = _REFUSED.get(kind, f"an entry of unknown type {kind!r}")
            raise InvalidBundle(
                f"bundle holds {what}: '{_shown(long_path or member.path)}'",
                hint="Bundles hold regular files and folders only.",
            )
        start = file.tell()
        yield member if long_path is None else _with_path(member, long_path)
        long_path = None
        file.seek(start + _padded(member.size))


def _parse_header(block: bytes) -> tuple[Member, bytes]:
    if len(block) != BLOCK or block[257:262] != b"ustar" or _octal(block[148:156]) != _checksum(block):
        raise InvalidBundle("bundle is not an uncompressed tar, or it is cut short")
    kind = block[156:157]
    name = _text(block[0:100])
    # GNU's magic is "ustar  ": it keeps other fields where POSIX has the prefix of the path.
    prefix = _text(block[345:500]) if block[262:263] == b"\0" else ""
    path = f"{prefix}/{name}" if prefix else name
    is_folder = _KINDS.get(kind) == "folder"
    size = _octal(block[124:136])
    if is_folder and size:
        raise InvalidBundle(f"bundle's folder '{_shown(path)}' claims to have content")
    return Member(path, is_folder, bool(_octal(block[100:108]) & 0o100), size), kind


def _read_pax_path(file: BinaryIO, size: int) -> str | None:
    if size > _PAX_LIMIT:
        raise InvalidBundle(f"bundle has an extended header of {size} bytes; at most {_PAX_LIMIT} are read")
    data = file.read(_padded(size))[:size]
    if len(data) != size:
        raise InvalidBundle("bundle is cut short")
    path: str | None = None
    while data:
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        record, data = data[len(digits) + 1 : length], data[length:]
        key, separator, value = record.partition(b"=")
        if not separator or not value.endswith(b"\n"):
            raise InvalidBundle("bundle has an extended header that cannot be read")
        if key == b"path":
            path = _text(value[:-1])
        elif key.decode("utf-8", "replace") not in _PAX_HARMLESS:
            raise InvalidBundle(f"bundle has an extended header '{_shown(_text(key))}' that is not accepted")
    return path


def _with_path(member: Member, path: str) -> Member:
    return Member(path, member.is_folder, member.is_executable, member.size)


def _text(field: bytes) -> str:
    try:
        return field.split(b"\0", 1)[0].decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidBundle(f"bundle holds a name that is not UTF-8: {field[:80]!r}") from None


def _octal(field: bytes) -> int:
    digits = field.split(b"\0", 1)[0].strip(b" ")
    # GNU's base-256 numbers begin with a byte over 0x7f; only sizes over 8 GiB need them.
    if digits and (len(digits) > 12 or digits.strip(b"01234567")):
        raise InvalidBundle(f"bundle has a header field that is no octal number: {field!r}")
    return int(digits or b"0", 8)


def _checksum(block: bytes) -> int:
    return sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _shown(path: str) -> str:
    return path[:200].encode("unicode_escape").decode()
