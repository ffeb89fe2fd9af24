"""WebSocket's opening handshake: values to bytes, no I/O.

Source: RFC 6455 (section 4.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from tailrace_runtime.call import Call
from tailrace_runtime.framing import Headers, check_header

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"
# These are the handshake's own, or have no meaning in an answer without a body.
_NOT_THE_APPS = frozenset(
    (
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    )
)


def offered_subprotocols(call: Call) -> list[str]:
    """What the client can speak, the most wanted first."""
    line = b",".join(call.values(b"sec-websocket-protocol")).decode("latin-1")
    return [name.strip() for name in line.split(",") if name.strip()]


def refusal(call: Call) -> tuple[int, list[tuple[str, str]], bytes] | None:
    """Status, headers and body for a request that is no handshake; None for one that is."""
    if call.values(b"sec-websocket-version") != [_VERSION]:
        body = b"this function speaks version 13 of WebSocket\n"
        return 426, [("Sec-WebSocket-Version", "13"), ("Content-Type", "text/plain")], body
    if not _is_key(call.values(b"sec-websocket-key")):
        return 400, [("Content-Type", "text/plain")], b"Sec-WebSocket-Key is not 16 bytes in base64\n"
    return None


def accept_head(call: Call, *, subprotocol: str | None, headers: Headers) -> bytes:
    """The answer that opens the connection.

    Args:
        headers: The app's own; those of the handshake among them are dropped.
    Raises:
        ValueError: a header or the subprotocol is not legal in a head.
    """
    (key,) = call.values(b"sec-websocket-key")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    own = [(name, value) for name, value in headers if name.lower() not in _NOT_THE_APPS]
    if subprotocol:
        own.append(("Sec-WebSocket-Protocol", subprotocol))
    for name, value in own:
        check_header(name, value)
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _is_key(found: list[bytes]) -> bool:
    try:
        return len(found) == 1 and len(base64.b64decode(found[0], validate=True)) == 16
    except binascii.Error:
        return False
