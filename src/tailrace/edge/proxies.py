"""Who a call comes from when a proxy that is trusted stands in between."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from tailrace.addresses import Network

# Hops looked at; a list that is longer is no list of proxies.
HOPS_LIMIT = 32
# Addresses that are remembered, and how long their text may be.
_REMEMBERED = 4096
_REMEMBERED_BYTES = 64

_WITH_PORT = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies:
    """Which addresses may tell whom they speak for."""

    def __init__(self, trusted: tuple[Network, ...]) -> None:
        self._trusted = trusted
        # Parsing an address takes 10 us; the same ones come again.
        self._known: dict[bytes, tuple[bytes, bool] | None] = {}

    def client(self, peer: bytes, forwarded: Sequence[bytes]) -> bytes:
        """The client's address.

        That is the rightmost of ``X-Forwarded-For`` that is no trusted proxy's, read only when ``peer`` is
        trusted; the leftmost, when all are. What stands further left was written by the client itself.

        Args:
            peer: The connection's other end.
            forwarded: The header's values, one per line of the head.
        """
        if not self._trusted or not forwarded:
            return peer
        known = self._look_up(peer)
        if known is None or not known[1]:
            return peer
        found = peer
        hops = b",".join(forwarded).rsplit(b",", HOPS_LIMIT)
        for hop in reversed(hops[-HOPS_LIMIT:]):
            known = self._look_up(hop)
            if known is None:
                return peer
            found, is_trusted = known
            if not is_trusted:
                return found
        return found if len(hops) <= HOPS_LIMIT else peer

    def _look_up(self, text: bytes) -> tuple[bytes, bool] | None:
        """The address in its one form, and whether it is a trusted proxy's; None when it is malformed."""
        try:
            return self._known[text]
        except KeyError:
            pass
        address = _parse(text.strip(b" \t"))
        known = None
        if address is not None:
            is_trusted = any(address in network for network in self._trusted)
            known = str(address).encode(), is_trusted
        if len(text) <= _REMEMBERED_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[text] = known
        return known


def _parse(text: bytes) -> _Address | None:
    """An address, with or without a port as some proxies add it; an IPv4 address in IPv6 form as IPv4."""
    with_port = _WITH_PORT.fullmatch(text)
    if with_port is not None:
        text = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.scope_id is not None:  # may hold any characters
        return None
    return address.ipv4_mapped or address
