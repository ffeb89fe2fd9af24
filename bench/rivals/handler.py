"""What the servers of sync handlers are compared with: a Flask generator that waits between its events.

Its events are those of bench/native/event.h, so that the sink reads number and time from them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Response, request

EVENT = (
    'data: {"at":"%010d %020d","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"'
    + "x" * 48
    + '"}}]}\n\n'
)


def handle(req: bytes) -> Response:
    """``n`` events, one every ``gap_ms``, both from the query."""
    del req  # what is asked for is in the query
    count, gap_s = int(request.args["n"]), int(request.args["gap_ms"]) / 1000

    def tell() -> Iterator[str]:
        for number in range(count):
            yield EVENT % (number, time.monotonic_ns())
            time.sleep(gap_s)

    return Response(tell(), mimetype="text/event-stream")
