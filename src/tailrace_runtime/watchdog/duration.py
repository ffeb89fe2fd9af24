"""``X-Duration-Seconds``: how long the process took until its answer's head, as of-watchdog tells it."""

from __future__ import annotations

import time

NAME = "X-Duration-Seconds"


def since(began: float) -> tuple[str, str]:
    """The header for a call that came at this moment of `time.monotonic`."""
    return NAME, f"{time.monotonic() - began:.6f}"
