"""Which web pages of another origin may read and stop runs, and hand in asynchronous calls.

A page may always send such requests, but its browser lets it read an answer, or send more than a plain one,
only where the answer allows its origin. What `/function/` says of that is the function's; what the gateway
answers itself of the data plane is said here. Source: fetch.spec.whatwg.org, "CORS protocol".
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace.edge.routes import is_data_plane

# Pages of this machine, on any port, as the development servers of front ends have them.
_LOOPBACK = r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?"
_READABLE = ("location", "retry-after", "x-call-id", "x-start-time")
# A browser asks again after so long; Chromium takes two hours at most.
_KEEP_S = 600


class Cors:
    """ASGI middleware around the control plane, `/system/` left out.

    Args:
        origins: Such as ``https://app.example.com``; ``*``: every one.
        with_loopback: Pages of this machine too.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], *, with_loopback: bool) -> None:
        self._app = app
        self._shared = CORSMiddleware(
            app, allow_origins=origins, allow_origin_regex=_LOOPBACK if with_loopback else None,
            allow_methods=("GET", "POST", "DELETE"), allow_headers=("*",), expose_headers=_READABLE,
            max_age=_KEEP_S,
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_shared = scope["type"] == "http" and is_data_plane(scope["path"])
        await (self._shared if is_shared else self._app)(scope, receive, send)
