"""Signatures of results: how a receiver knows that the gateway sent one, and when. Pure but for the file."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from tailrace.errors import PlatformError
from tailrace.state import write_atomically

DELIVERY = "X-Tailrace-Delivery"
SIGNATURE = "X-Tailrace-Signature"
TIMESTAMP = "X-Tailrace-Timestamp"
_KEY_LIMIT = 4096
_LEAST_BYTES = 16


def sign(secret: bytes, *, timestamp: int, delivery: str, status: int, body: bytes) -> str:
    """The value of ``X-Tailrace-Signature``: HMAC-SHA256 over ``TIMESTAMP.DELIVERY.STATUS.BODY``."""
    signed = f"{timestamp}.{delivery}.{status}.".encode() + body
    return "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


def open_secret(state_dir: Path, file: Path | None) -> bytes:
    """The secret of a file, or that of the state directory, made at the first time (mode 0600).

    Raises:
        PlatformError: the file cannot be used.
    """
    path = file or state_dir / "callback.key"
    if file is None and not path.exists():
        write_atomically(path, secrets.token_urlsafe(32).encode())
    try:
        with path.open("rb") as opened:
            secret = opened.read(_KEY_LIMIT).strip()
    except OSError as failed:
        raise PlatformError(
            f"the secret that signs results cannot be read: '{path}': {failed.strerror}"
        ) from failed
    if len(secret) < _LEAST_BYTES:
        raise PlatformError(
            f"'{path}' holds fewer than {_LEAST_BYTES} bytes, too few for a secret",
            hint="Make one: openssl rand -base64 32",
        )
    return secret
