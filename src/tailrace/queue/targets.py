"""Where results may be delivered. Pure.

Whoever may call a function names the address that the gateway then asks, so by default it may be none that
only this machine or its network can reach: not written as such, not found by DNS, not reached by a redirect.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tailrace.errors import InvalidRequest, NotAllowed

URL_LIMIT = 2048
_HINT = "TAILRACE_CALLBACK_ALLOW_PRIVATE=true allows them to everybody who may call a function."
# IPv4 addresses inside of IPv6 ones. Source: RFC 6052 section 2.1, RFC 3056.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# All that IPv6 has given out to everybody, and what IPv4 keeps to itself: which of the rest `is_global` knows
# depends on the release of Python. Source: RFC 4291, RFC 6890.
_UNICAST = ipaddress.ip_network("2000::/3")
_PROTOCOL = ipaddress.ip_network("192.0.0.0/24")
# A name, or an IPv6 address without the zone, which means something to one machine only.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]*")
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class Target:
    """A callback's URL, taken apart. ``host`` is without brackets; ``path`` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == (443 if self.scheme == "https" else 80)
        return host if is_usual else f"{host}:{self.port}"

    def url_at(self, address: str) -> str:
        """The URL with an address in the place of its host."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def read_target(url: str, *, allow_private: bool) -> Target:
    """A callback's URL.

    Raises:
        InvalidRequest: it is none of HTTP or HTTPS.
        NotAllowed: it names an address of this machine or of a private network.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= URL_LIMIT
    is_plain = is_plain and _HOST.fullmatch(host) is not None and port != 0 and parts.username is None
    if not is_plain or parts.scheme not in ("http", "https"):
        raise InvalidRequest(
            f"X-Callback-Url '{url[:200]}' is no URL of http or https with a host and without a password"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(parts.scheme, host.lower(), port or (443 if parts.scheme == "https" else 80), path)
    if not allow_private and not _may_be_public(target.host):
        raise NotAllowed(f"X-Callback-Url names '{target.host}', which is no public address", hint=_HINT)
    return target


def check_addresses(target: Target, addresses: Iterable[str], *, allow_private: bool) -> None:
    """Refuse a host that DNS leads to an address of this machine or of a private network.

    Raises:
        NotAllowed: one of the addresses is such; then none is used.
    """
    for address in addresses:
        if not allow_private and not is_public(address):
            raise NotAllowed(f"'{target.host}' has the address {address}, which is not public", hint=_HINT)


def is_public(address: str) -> bool:
    """Whether everybody can reach an IP address: it is not loopback, private, link-local, multicast, ..."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None:
            return found in _UNICAST and found.is_global
        found = inner
    return found.is_global and not found.is_multicast and not found.is_reserved and found not in _PROTOCOL


def _may_be_public(host: str) -> bool:
    if host.rstrip(".") in _LOCAL_NAMES or host.rstrip(".").endswith(".localhost"):
        return False
    is_number = ":" in host or all(part.isdigit() or part.startswith("0x") for part in host.split("."))
    return is_public(host) if is_number else True
