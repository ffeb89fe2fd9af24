"""Listening sockets, and who owns an address that is taken."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tailrace.errors import AddressTaken, InvalidRequest

# A burst of connections waits here while the loop is busy; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048
# The addresses that only this machine reaches, as they are given as a host.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
# The first descriptor of a service manager that hands sockets in. Source: sd_listen_fds(3).
_FIRST_HANDED = 3
# How the socket is named where several are handed in; the second is what systemd calls tailrace.socket's.
_OUR_NAMES = ("tailrace", "tailrace.socket")


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


def listening_socket(fd: int) -> socket.socket:
    """The listening socket (TCP or unix) that was handed in as this descriptor, made non-blocking.

    Owns: the descriptor, from now on; it is not passed on to children.

    Raises:
        InvalidRequest: it is not open, no socket, or none that listens for streams.
    """
    hint = "Hand in a TCP or unix stream socket that listens already: docs/how-to/replace-a-gateway.md"
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise InvalidRequest(f"descriptor {fd} is no socket", hint=hint)
    except OSError as failed:
        raise InvalidRequest(f"descriptor {fd} is not open: nobody handed it in", hint=hint) from failed
    sock = socket.socket(fileno=fd)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if (
        sock.family not in families
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        sock.detach()
        raise InvalidRequest(f"descriptor {fd} is a socket that does not listen for streams", hint=hint)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def handed_in(env: Mapping[str, str], pid: int) -> int | None:
    """The descriptor of the socket that systemd handed to this process; None when it handed in none.

    Of several sockets it is the one named ``tailrace`` or ``tailrace.socket``. Source: sd_listen_fds(3).

    Raises:
        InvalidRequest: several sockets, and not exactly one of that name.
    """
    count = env.get("LISTEN_FDS", "")
    # Both variables are inherited by whoever the addressed process starts; they are not for him.
    if env.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit() and int(count)):
        return None
    if int(count) == 1:
        return _FIRST_HANDED
    names = env.get("LISTEN_FDNAMES", "").split(":")[: int(count)]
    ours = [_FIRST_HANDED + index for index, name in enumerate(names) if name in _OUR_NAMES]
    if len(ours) != 1:
        raise InvalidRequest(
            f"systemd handed in {count} sockets, named {', '.join(names)}; expected one",
            hint="Keep one ListenStream=, or name one with FileDescriptorName=tailrace.",
        )
    return ours[0]


def is_free(host: str, port: int) -> bool:
    """Whether somebody could listen on the address right now."""
    try:
        bind_tcp(host, port).close()
    except AddressTaken:
        return False
    return True


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
