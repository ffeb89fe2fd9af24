"""Idempotency keys: which requests are the same call, and what becomes of the second one. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

KEY_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Claim:
    """Who came first with a key: its run, and what it sent."""

    run: str
    request_sha256: str
    claimed_at: float = 0.0


def is_key(value: bytes) -> bool:
    """Whether a header's value can be a key: 1 to 256 visible ASCII characters."""
    return 0 < len(value) <= KEY_LIMIT and all(0x21 <= byte <= 0x7E for byte in value)


def claim_name(function: str, authorization: bytes, key: bytes) -> str:
    """What a key is stored by: one caller's key of one function, unreadable and fit for a subject."""
    digest = hashlib.sha256()
    for part in (function.encode(), hashlib.sha256(authorization).digest(), key):
        digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()


def request_digest(method: bytes, target: bytes, body: bytes, callback_url: bytes = b"") -> str:
    """What makes two requests with one key the same: method, path with query, body, where its result goes."""
    digest = hashlib.sha256()
    for part in (method, target, body, callback_url) if callback_url else (method, target, body):
        digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()


def judge(held: Claim, request_sha256: str) -> Literal["join", "refuse"]:
    """What a request does that finds its key taken: join that run, or be refused for being another one."""
    return "join" if held.request_sha256 == request_sha256 else "refuse"


def encode_claim(claim: Claim) -> bytes:
    """The claim as it is stored."""
    return msgspec.json.encode(claim)


def decode_claim(data: bytes) -> Claim | None:
    """The claim that was stored; None for what is none."""
    try:
        return msgspec.json.decode(data, type=Claim)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
