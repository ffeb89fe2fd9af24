"""Durations as Go writes them: ``300ms``, ``1h30m``, ``1.5s``. Pure."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(ns|us|µs|ms|s|m|h)")


def parse_duration(text: str) -> float | None:
    """The duration in seconds, or None when the text is none. A number needs its unit; ``0`` does not.

    Source: Go's time.ParseDuration, without signs.
    """
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while part := _PART.match(text, at):
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return total if at == len(text) and text else None
