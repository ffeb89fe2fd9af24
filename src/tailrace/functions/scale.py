"""How many replicas an alert asks for. Pure."""

from __future__ import annotations


def alerted(current: int, *, least: int, most: int, factor: int, is_firing: bool) -> int:
    """The count after an alert: a step up while it fires, the least once it is resolved.

    Between ``least`` and ``most`` whatever it was before, and however often the alert comes. A step is
    ``factor`` percent of ``most``, at least one replica; with factor 0 alerts change nothing.

    Source: contract section 8.
    """
    if not factor:
        return current
    if not is_firing:
        return least
    step = -(-most * factor // 100)  # rounded up, in whole numbers: 14 % of 50 are 7
    return max(least, min(most, current + step))
