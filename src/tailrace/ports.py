"""Listening sockets, and who owns an address that is taken."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tailrace.errors import AddressTaken, InvalidRequest

# A burst of connections waits here while the loop is busy; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048


def bind_tcp(host: str, port: int) -> socket.socket:
    """A non-blocking socket that listens on host and port; port 0 takes a free one.

    ``localhost`` means its IPv4 address where it has one.

    Raises:
        AddressTaken: another process listens there, or this user may not; the text names the owner where
            the system tells.
        InvalidRequest: the host is no address of this machine.
    """
    family, address = _resolve(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as failed:
        sock.close()
        raise _explain(host, port, failed) from failed
    except BaseException:
        sock.close()
        raise
    return sock


def find_owner(port: int) -> str | None:
    """Who listens on the TCP port here, as ``'python3 -m http.server' (pid 4711)``; None when unknown."""
    pid = _listener_pid_linux(port) if sys.platform == "linux" else _listener_pid_lsof(port)
    return f"'{_command(pid)}' (pid {pid})" if pid else None


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as failed:
        raise InvalidRequest(f"cannot listen on '{host}': {failed}") from failed
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, address


def _explain(host: str, port: int, failed: OSError) -> AddressTaken | InvalidRequest:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if failed.errno == errno.EADDRINUSE:
        owner = find_owner(port)
        return AddressTaken(
            f"{shown} is taken by {owner or 'another process'}",
            hint="Stop it, or choose another port: --port 8081 (0 takes a free one).",
        )
    if failed.errno in (errno.EACCES, errno.EPERM):
        return AddressTaken(
            f"this user may not listen on {shown}", hint="Choose a port above 1023: --port 8080."
        )
    return InvalidRequest(
        f"cannot listen on {shown}: {failed.strerror}", hint="Use an address of this machine."
    )


def _listener_pid_linux(port: int) -> int | None:
    """The pid that holds a listening socket of this port; None when it is another user's."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and wanted.intersection(_open_links(process / "fd")):
            return int(process.name)
    return None


def _open_links(folder: Path) -> list[str]:
    links = []
    # Another user's process, one that has just ended, a file that was closed in between: not the owner.
    with contextlib.suppress(OSError):
        for link in folder.iterdir():
            with contextlib.suppress(OSError):
                links.append(str(link.readlink()))
    return links


def _listening_inodes(table: str, port: int) -> list[str]:
    try:
        rows = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    cells = [row.split() for row in rows]
    listen = "0A"  # TCP_LISTEN, include/net/tcp_states.h
    return [c[9] for c in cells if c[3] == listen and int(c[1].rpartition(":")[2], 16) == port]


def _listener_pid_lsof(port: int) -> int | None:
    lsof = shutil.which("lsof") or "/usr/sbin/lsof"
    command = [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    first = done.stdout.split()[:1]
    return int(first[0]) if first and first[0].isdigit() else None


def _command(pid: int) -> str:
    """The process's command line, at most 80 characters; its arguments may be long and are not all of use."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        text = " ".join(words).strip()
    except OSError:
        ps = ["ps", "-o", "command=", "-p", str(pid)]
        try:
            text = subprocess.run(  # noqa: S603
                ps, capture_output=True, text=True, timeout=2, check=False
            ).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            text = ""
    text = "".join(c if c.isprintable() else " " for c in text) or "unknown"
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_free(host: str, port: int) -> bool:
    """Whether somebody could listen on the address right now."""
    try:
        bind_tcp(host, port).close()
    except AddressTaken:
        return False
    return True
