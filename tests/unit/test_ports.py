"""ports: sockets that listen, and the owner of one that is taken."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from tailrace.errors import AddressTaken, InvalidRequest
from tailrace.ports import bind_tcp, find_owner, handed_in, is_free, listening_socket


def test_port_0_gives_a_listening_nonblocking_socket() -> None:
    """The socket accepts connections at once and never blocks the loop."""
    with bind_tcp("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname(), 5):
        accepted, _ = sock.accept()

        accepted.close()
        assert sock.getblocking() is False


@pytest.mark.parametrize("taken_by", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_taken_port_names_its_owner_and_the_way_out(taken_by: str) -> None:
    """The person learns who has the port, and how to choose another."""
    with bind_tcp(taken_by, 0) as owner:
        port = owner.getsockname()[1]

        with pytest.raises(AddressTaken) as refused:
            bind_tcp("127.0.0.1", port)

        assert f"127.0.0.1:{port} is taken by '" in refused.value.message
        assert f"(pid {os.getpid()})" in refused.value.message
        assert "--port" in (refused.value.hint or "")
        assert not is_free("127.0.0.1", port)


def test_a_free_port_has_no_owner() -> None:
    """Nobody is named for a port that nobody listens on."""
    with bind_tcp("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]

    assert find_owner(port) is None
    assert is_free("127.0.0.1", port)


def test_a_port_can_be_taken_again_right_after_its_owner_left() -> None:
    """Connections in TIME_WAIT do not keep a restarted gateway from its port."""
    with bind_tcp("127.0.0.1", 0) as first:
        address = first.getsockname()
        with socket.create_connection(address, 5):
            accepted, _ = first.accept()
            accepted.close()

    bind_tcp(*address).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 300])
def test_a_host_that_is_not_here_is_refused(host: str) -> None:
    """An address of another machine and a name that does not resolve are told apart from a taken port."""
    with pytest.raises(InvalidRequest, match="cannot listen on"):
        bind_tcp(host, 0)


def test_a_socket_that_was_handed_in_is_taken_over() -> None:
    """It accepts, never blocks the loop, and no child gets it."""
    with bind_tcp("127.0.0.1", 0) as parents:
        fd = os.dup(parents.fileno())
        os.set_inheritable(fd, True)
        with listening_socket(fd) as sock, socket.create_connection(sock.getsockname(), 5):
            accepted, _ = sock.accept()

            accepted.close()
            assert (fd, False, False) == (sock.fileno(), sock.getblocking(), os.get_inheritable(fd))


def test_a_unix_socket_can_be_handed_in() -> None:
    """A proxy on the same machine may reach the gateway so."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as parents:
        parents.bind(str(Path(folder, "s")))
        parents.listen()

        with listening_socket(os.dup(parents.fileno())) as sock:
            assert socket.AF_UNIX == sock.family


def _descriptor(kind: str) -> int:
    """An open descriptor that no gateway can listen on; -1: one that is not open."""
    if kind == "file":
        return os.open(os.devnull, os.O_RDONLY)
    if kind == "datagram":
        return socket.socket(type=socket.SOCK_DGRAM).detach()
    if kind == "connected":
        one, other = socket.socketpair()
        one.close()
        return other.detach()
    sock = socket.socket()
    if kind == "bound":
        sock.bind(("127.0.0.1", 0))
    fd = sock.detach()
    if kind == "closed":
        os.close(fd)
    return fd


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("closed", "is not open"),
        ("file", "is no socket"),
        ("datagram", "does not listen for streams"),
        ("connected", "does not listen for streams"),
        ("bound", "does not listen for streams"),
    ],
)
def test_a_descriptor_that_does_not_listen_is_refused_and_left_open(kind: str, said: str) -> None:
    """The text says what it is; it stays its owner's."""
    fd = _descriptor(kind)

    with pytest.raises(InvalidRequest, match=f"descriptor {fd} .*{said}"):
        listening_socket(fd)

    if kind != "closed":
        os.close(fd)


@pytest.mark.parametrize(
    ("env", "fd"),
    [
        ({}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 3),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, None),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:tailrace.socket"}, 4),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "tailrace:other"}, 3),
    ],
)
def test_the_socket_of_systemd_is_found(env: dict[str, str], fd: int | None) -> None:
    """Only when it is addressed to this process; of several, the one with our name."""
    assert fd == handed_in(env, 7)


@pytest.mark.parametrize("names", ["a:b", "tailrace:tailrace"])
def test_several_sockets_without_one_of_our_name_are_refused(names: str) -> None:
    """None is taken by chance."""
    env = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": names}

    with pytest.raises(InvalidRequest, match="handed in 2 sockets, named"):
        handed_in(env, 7)
