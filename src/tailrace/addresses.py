"""Addresses, networks and hosts as people write them in settings. Pure."""

from __future__ import annotations

import ipaddress
import re

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_DOMAIN = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)

# Instead of addresses: the gateway runs a NATS of its own.
EMBEDDED = "embedded"
# No NATS at all.
OFF = "off"
# A user and a password before the host; also a password with a slash or the like in it, which is no port.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")
_USERINFO = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#:\s]*:(?![0-9]*(?:[/?#]|$))[^@\s]*@)")


def read_networks(text: str) -> tuple[Network, ...]:
    """Addresses or networks with commas between them.

    Raises:
        ValueError: with what is expected.
    """
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("addresses or networks with commas between them, such as 10.0.0.0/8") from None


def household(address: str) -> str:
    """Whom an address belongs to, for counting: an IPv4 address itself, the /64 of an IPv6 address.

    One host has a whole /64 and takes what addresses of it it likes (RFC 4862, RFC 8981). What is no address
    is returned as it is.
    """
    if ":" not in address:
        return address
    try:
        known = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(known) >> 64 << 64)}/64"


def without_password(text: str) -> str:
    """A text with URLs in it as it may be shown or kept: without their users and passwords."""
    return _USERINFO.sub("", text)


def read_nats_urls(text: str) -> tuple[str, ...]:
    """Servers of a NATS, with commas between them; ``embedded``: one of the gateway's own; ``off``: none.

    Raises:
        ValueError: with what is expected.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if found == (OFF,):
        return ()
    are_urls = all(re.fullmatch(r"(?:nats|tls)://[A-Za-z0-9.:\[\]-]{1,255}", url) for url in found)
    if found != (EMBEDDED,) and not (found and are_urls):
        raise ValueError(
            "embedded, off, or URLs such as nats://127.0.0.1:4222 or tls://nats.example.com; credentials go "
            "into a file (nats_creds)"
        )
    return found


def read_origins(text: str) -> tuple[str, ...]:
    """Origins of web pages with commas between them, as browsers write them; ``*``: every one.

    Raises:
        ValueError: with what is expected.
    """
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not all(one == "*" or _ORIGIN.fullmatch(one) for one in found):
        raise ValueError("origins such as https://app.example.com or http://10.0.0.7:3000 (no path), or *")
    return tuple(without_default_port(one) for one in found)


def without_default_port(origin: str) -> str:
    """An origin as browsers send it: the port is left out where its scheme says it."""
    scheme = origin.partition("://")[0]
    return origin.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


def read_domain(text: str) -> str:
    """``NAME``, or ``NAME:PORT`` for another port than 443.

    Raises:
        ValueError: with what is expected.
    """
    name, colon, port = text.partition(":")
    is_name = len(name) <= 253 and _DOMAIN.fullmatch(name) and not name.rpartition(".")[2].isdigit()
    is_port = re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= 65535 if colon else True
    if text and not (is_name and is_port):
        raise ValueError("a host name, such as api.example.com")
    return text.lower()


def read_host(text: str) -> str:
    """An IP address or a host name; the brackets of IPv6 are dropped.

    Raises:
        ValueError: with what is expected.
    """
    if not text or any(c.isspace() or c == "/" for c in text):
        raise ValueError("an IP address or a host name")
    return text.strip("[]")
