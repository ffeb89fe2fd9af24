"""What Caddy writes to its log, as words for ours: warnings, errors, and news of certificates. Pure."""

from __future__ import annotations

import msgspec

READY = "serving initial configuration"
_NEWS = ("certificate obtained successfully", "certificate renewed successfully")
# Warnings about nothing that anybody could or should change.
_IDLE = ("storage cleaning happened too recently", "exiting;")
_OWN = "its own authority (root: caddy/pki/authorities/local/root.crt in the state directory)"
_SHOWN = 1000


class Line(msgspec.Struct):
    """A line of Caddy's log in JSON; further fields are left out."""

    msg: str
    level: str = "info"
    logger: str = ""
    identifier: str = ""
    issuer: str = ""
    error: str = ""


_decode = msgspec.json.Decoder(Line).decode


def read_line(text: str) -> Line | None:
    """A line of the log; None for words that are no JSON, such as a panic's."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None


def worth_telling(line: Line) -> str:
    """What of the line is for people; empty when nothing is."""
    if line.msg in _NEWS:
        by = _OWN if line.issuer == "local" else line.issuer
        return f"{line.msg.partition(' successfully')[0]} for {line.identifier}{f' from {by}' if by else ''}"
    if line.level in ("info", "debug") or line.msg.startswith(_IDLE):
        return ""
    about = ": ".join(part for part in (line.identifier, line.error) if part)
    return f"{line.level}: {line.msg}{f' ({about})' if about else ''}"[:_SHOWN]
