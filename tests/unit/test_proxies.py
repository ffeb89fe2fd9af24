"""Who a call comes from: only a trusted proxy may tell, and only what it saw itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.edge.proxies import HOPS_LIMIT, Proxies
from tailrace.settings import load

TRUSTED = load({"trusted_proxies": "10.0.0.0/8, 127.0.0.1, fd00::/8"}, env={}).trusted_proxies
PEER = b"10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (PEER, [], PEER),
        (PEER, [b"203.0.113.7"], b"203.0.113.7"),
        (PEER, [b"198.51.100.1, 203.0.113.7"], b"203.0.113.7"),  # the left one was written by the client
        (PEER, [b"203.0.113.7, 10.2.3.4"], b"203.0.113.7"),
        (PEER, [b"203.0.113.7", b"10.2.3.4,127.0.0.1"], b"203.0.113.7"),
        (PEER, [b"10.2.3.4, 127.0.0.1"], b"10.2.3.4"),  # all are trusted: the first of them
        (PEER, [b" 203.0.113.7\t"], b"203.0.113.7"),
        (PEER, [b"203.0.113.7:4711"], b"203.0.113.7"),
        (PEER, [b"[2001:db8::7]:4711"], b"2001:db8::7"),
        (PEER, [b"[2001:db8::7]"], b"2001:db8::7"),
        (PEER, [b"2001:DB8:0::7"], b"2001:db8::7"),
        (PEER, [b"203.0.113.7, ::ffff:10.2.3.4"], b"203.0.113.7"),
        (b"fd00::1", [b"203.0.113.7"], b"203.0.113.7"),
        (b"::ffff:10.0.0.1", [b"203.0.113.7"], b"203.0.113.7"),
        # Somebody else's word about himself.
        (b"203.0.113.9", [b"198.51.100.1"], b"203.0.113.9"),
        (b"unix", [b"198.51.100.1"], b"unix"),
        # What is malformed where it would be read.
        (PEER, [b"203.0.113.7, unknown"], PEER),
        (PEER, [b"unknown, 203.0.113.7"], b"203.0.113.7"),
        (PEER, [b"203.0.113.7,"], PEER),
        (PEER, [b""], PEER),
        (PEER, [b"203.0.113.007"], PEER),
        (PEER, [b"203.0.113.7:port"], PEER),
        (PEER, [b"[2001:db8::7"], PEER),
        (PEER, [b"fe80::1%eth0\r\nX: y"], PEER),
        (PEER, [b"203.0.113.7\n"], PEER),
        (PEER, [b"\xd9\xa1.1.1.1"], PEER),
        (PEER, [b"203.0.113.7" + b", 10.0.0.2" * (HOPS_LIMIT - 1)], b"203.0.113.7"),
        (PEER, [b"203.0.113.7" + b", 10.0.0.2" * HOPS_LIMIT], PEER),
    ],
)
def test_the_client_is_the_last_hop_that_is_not_ours(
    peer: bytes, forwarded: list[bytes], client: bytes
) -> None:
    """The rightmost address that is no trusted proxy's; the peer, where that cannot be read."""
    assert client == Proxies(TRUSTED).client(peer, forwarded)


def test_nobody_is_trusted_by_default() -> None:
    """Without the setting the header says nothing."""
    proxies = Proxies(load({}, env={}).trusted_proxies)

    assert b"127.0.0.1" == proxies.client(b"127.0.0.1", [b"203.0.113.7"])


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_whatever_is_forwarded_the_client_is_an_address(forwarded: list[bytes]) -> None:
    """No byte of the header gets through that is not an address's."""
    client = Proxies(TRUSTED).client(PEER, forwarded)

    assert set(client) <= set(b"0123456789abcdef.:")
