"""Which addresses a local model may listen on: those that no other machine reaches."""

from __future__ import annotations

import ipaddress

from tailrace.errors import InvalidRequest


def check_loopback(host: str) -> None:
    """
    Raises:
        InvalidRequest: host is neither ``localhost`` nor a loopback address.
    """
    try:
        is_loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise InvalidRequest(
            f"host {host[:100]} is not loopback: a local model answers this machine only",
            hint="Use 127.0.0.1, ::1 or localhost.",
        )
