"""Calls of functions: what is asked, and an answer that is read as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, unquote

import httpx

from tailrace.client.connection import CONNECT_TIMEOUT_S, Connection, talking
from tailrace.client.steps import check_headers
from tailrace.errors import InvalidRequest, ReplicaFailed
from tailrace.names import FunctionName

# So many letters of a call's id tell it from the others on a screen.
SHORT_CALL_ID = 8


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make. ``path`` and ``query`` come after the function's name; a body is whole."""

    function: FunctionName
    body: bytes = b""
    method: str = "POST"
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    # Handed in, to be made later; the answer is its run's id.
    is_async: bool = False


def check_call(call: Call) -> None:
    """Refuse what would be another request than a call of this function with this body.

    Raises:
        InvalidRequest: the method is none, the path leads out of the function, or a header says how the
            body is framed.
    """
    if not call.method.isascii() or not call.method.isalpha():
        raise InvalidRequest(f"'{call.method}' is no HTTP method")
    # A client, a proxy or a gateway resolves such segments, some after they have decoded them: the request
    # would leave the function, and could reach the control API.
    segments = unquote(call.path).replace("\\", "/").split("/")
    if "." in segments or ".." in segments:
        raise InvalidRequest(
            f"the path '{call.path}' has a segment '.' or '..'",
            hint="Write the path below the function as it is.",
        )
    check_headers(name for name, _ in call.headers)


class Calls(Connection):
    """Calls of a gateway's functions."""

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Call a function; the reply's body is read as it arrives, without any limit of time.

        No credentials of the gateway are sent. Leaving the context closes the call, wherever it stands.

        Raises:
            InvalidRequest: as `check_call`.
        """
        check_call(call)
        path = f"/{'async-function' if call.is_async else 'function'}/{call.function.short}"
        path += f"/{quote(call.path.lstrip('/'), safe='/%:@!$&()*+,;=~-._')}" if call.path else ""
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        async with AsyncExitStack() as stack:
            with talking(self.url):
                request = self.http.stream(
                    call.method.upper(), path, params=list(call.query) or None, headers=list(call.headers),
                    content=call.body or None, timeout=timeout,
                )  # fmt: skip
                response = await stack.enter_async_context(request)
            yield Reply(response, call.function)


class Reply:
    """A function's reply: its head, and a body that arrives piece by piece."""

    def __init__(self, response: httpx.Response, function: FunctionName) -> None:
        self._response = response
        self._function = function
        self.status = response.status_code
        self.reason = response.reason_phrase
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.is_native = response.headers.get("X-Tailrace-Dialect") == "native"
        # The gateway's own words, not the function's: no such function, no replica, a broken one.
        self.is_from_gateway = "X-OpenFaaS-Internal" in response.headers
        self.call_id = response.headers.get("X-Call-Id", "")
        self.location = response.headers.get("Location", "")

    @property
    def logs_hint(self) -> str:
        """Where to read why the call failed, with what `tailrace logs` shows of its id."""
        call = f" (call {self.call_id[:SHORT_CALL_ID]})" if self.call_id else ""
        return f"See why: tailrace logs {self._function.short}{call}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            ReplicaFailed: it was cut before its end.
        """
        try:
            async for chunk in self._response.aiter_bytes():
                yield chunk
        except (httpx.TransportError, httpx.DecodingError) as cut:
            raise ReplicaFailed(
                f"the answer of '{self._function.short}' was cut before its end",
                hint=self.logs_hint,
            ) from cut
