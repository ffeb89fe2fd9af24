"""Call ids: random, unguessable, fit for a URL, a header and a NATS subject."""

from __future__ import annotations

import os
from typing import Final

_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz234567"
# One random byte to one letter: the low five bits choose it.
_LETTERS: Final = bytes(_ALPHABET[byte & 31] for byte in range(256))
LENGTH = 26
# Ids made per system call; one call per id was 4 % of a small request.
_BATCH: Final = 64

_pool: Final[list[bytes]] = []


def new_call_id() -> bytes:
    """26 letters of lower-case base32: 130 random bits from the system's generator."""
    if not _pool:
        letters = os.urandom(LENGTH * _BATCH).translate(_LETTERS)
        _pool.extend(letters[at : at + LENGTH] for at in range(0, len(letters), LENGTH))
    return _pool.pop()
