"""ports: sockets that listen, and the owner of one that is taken."""

from __future__ import annotations

import os
import socket

import pytest

from tailrace.errors import AddressTaken, InvalidRequest
from tailrace.ports import bind_tcp, find_owner, is_free


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
