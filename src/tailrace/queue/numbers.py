"""What is counted of asynchronous calls in one process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class QueueNumbers:
    """Counters, and gauges where it says now.

    Attributes:
        queued: Calls accepted here.
        redelivered: Calls that came here again: tried before, or left by a worker that died.
        dead: Calls and deliveries that were given up here.
        delivered: Results delivered from here.
        callback_failures: Deliveries from here that failed; most are tried again.
        waiting: Calls that wait or are being made, of all functions, now.
        in_hand: Calls that this process makes, now.
    """

    queued: int = 0
    redelivered: int = 0
    dead: int = 0
    delivered: int = 0
    callback_failures: int = 0
    waiting: int = 0
    in_hand: int = 0
