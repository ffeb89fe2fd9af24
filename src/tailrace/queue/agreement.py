"""What all gateways and workers of one NATS have to have alike, as it is kept there: pure.

A receiver checks every result with one secret, so results that are signed with two cannot all be checked.
Who starts compares with what the one before has left. That is kept with the stream of results, and the
secret only as the beginning of a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tailrace.settings import Settings

_KEY = "tailrace-callback-key"
_ALLOW_PRIVATE = "tailrace-callback-allow-private"
_FINGERPRINT = 16


def notes_of(secret: bytes, settings: Settings) -> dict[str, str]:
    """What is kept of one gateway."""
    digest = hashlib.sha256(b"tailrace callback key " + secret).hexdigest()
    return {_KEY: digest[:_FINGERPRINT], _ALLOW_PRIVATE: str(settings.callback_allow_private).lower()}


def differences(before: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What to tell of a start after another one; empty: they are alike, or there was none."""
    told = []
    if before.get(_KEY, here[_KEY]) != here[_KEY]:
        told.append(
            "RESULTS CANNOT ALL BE CHECKED: those from here are signed with another secret than those of the "
            "gateway that started last on this NATS. Give every gateway the same --callback-secret-file. "
            "(After a change of the secret this is told once.)"
        )
    if before.get(_ALLOW_PRIVATE, here[_ALLOW_PRIVATE]) != here[_ALLOW_PRIVATE]:
        told.append(
            f"callback_allow_private is {here[_ALLOW_PRIVATE]} here and {before[_ALLOW_PRIVATE]} at the "
            "gateway that started last on this NATS: whether a private address gets a result depends on who "
            "sends it. "
            "Give all gateways and workers the same value."
        )
    return told
