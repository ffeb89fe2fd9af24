"""Where a process and all that it started listen. Source: proc(5), /proc/net/tcp."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

_LISTENING = "0A"


def listeners_of(pid: int) -> list[tuple[str, int]] | None:
    """Address and port of each TCP socket that a process or its children listen on; None: nobody can tell."""
    if not os.path.isdir("/proc/self/fd"):  # noqa: PTH112  # macOS
        return None
    inodes = _sockets_of(pid)
    found: list[tuple[str, int]] = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:  # noqa: PTH123
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and fields[9] in inodes:
                    found.append(_parse_address(fields[1]))
    return found


def _sockets_of(pid: int) -> set[str]:
    inodes: set[str] = set()
    pids = [pid]
    for one in pids:  # it grows meanwhile
        with contextlib.suppress(OSError):
            for handle in os.listdir(f"/proc/{one}/fd"):  # noqa: PTH208
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{one}/fd/{handle}")  # noqa: PTH115
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):  # noqa: PTH208
                with open(f"/proc/{one}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                    pids += [int(child) for child in file.read().split()]
    return inodes


def _parse_address(text: str) -> tuple[str, int]:
    """An address as the kernel writes it: hexadecimal words in the machine's own order."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, raw), int(port, 16)
