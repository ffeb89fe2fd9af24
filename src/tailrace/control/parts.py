"""What the control plane's routes work with, and how they read requests and write replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tailrace.build.builder import Builder
from tailrace.build.store import BundleStore
from tailrace.errors import InvalidRequest, NotFound, TooLarge, UnsupportedContent
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.functions.table import Function, Table
from tailrace.names import DEFAULT_NAMESPACE, FunctionName, is_function_label, parse_function_name
from tailrace.provider.contract import Provider
from tailrace.queue.opening import Queue
from tailrace.runs.keeper import Runs
from tailrace.settings import Settings

T = TypeVar("T")

# A deployment is names and small values; contract bodies are far below this.
JSON_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """The pieces of the gateway that routes use. Made once, in the wiring page."""

    settings: Settings
    table: Table
    reconciler: Reconciler
    provider: Provider
    bundles: BundleStore
    logs: LogStore
    # Removes bundles that nothing needs; given those that are wished for.
    prune: Callable[[Collection[str]], Awaitable[object]]
    clock: Callable[[], float]
    # None: this gateway keeps none.
    runs: Runs | None = None
    # None where there is no payload secret.
    builder: Builder | None = None
    # None where no runs are kept.
    queue: Queue | None = None


def parts(request: Request) -> Parts:
    """The parts of the gateway that answers this request."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


async def read_json(request: Request, kind: type[T], *, limit_bytes: int = JSON_LIMIT) -> T:
    """The body as a value of this type.

    A web page can send ``text/plain`` or a form to a loopback port without asking; JSON it cannot. So
    nothing else is parsed.

    Raises:
        UnsupportedContent: a content type other than none or ``application/json``.
        TooLarge: over limit_bytes.
        InvalidRequest: no JSON of that shape. The text's beginning is OpenFaaS's.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in ("", "application/json"):
        raise UnsupportedContent(f"expected Content-Type application/json, got '{content_type[:100]}'")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise TooLarge(f"the request's JSON is longer than {limit_bytes} bytes")
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"failed to unmarshal request: {error}") from None


def function_of(request: Request, in_body: str = "") -> Function:
    """The function that the path's ``name`` and the body's or query's namespace mean.

    Raises:
        NotFound: it is not deployed.
        InvalidRequest: the namespace is no legal name.
    """
    text = request.path_params["name"]
    name = parse_function_name(text)
    if name is not None and (in_body or "namespace" in request.query_params):
        name = FunctionName(name.name, namespace_of(request, in_body))
    function = parts(request).table.get(name) if name else None
    if function is None:
        raise NotFound(f"function '{text[:80]}' is not deployed")
    return function


def json_reply(value: object, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def namespace_of(request: Request, in_body: str = "") -> str:
    """The namespace of a request: its body's, else its query's, else the default one.

    Raises:
        InvalidRequest: it is no legal name.
    """
    namespace = in_body or request.query_params.get("namespace", "") or DEFAULT_NAMESPACE
    if not is_function_label(namespace):
        raise InvalidRequest(f"namespace '{namespace[:80]}' is not a legal name")
    return namespace


class UntilGone(StreamingResponse):
    """A stream that may be silent for hours and still ends when its client leaves."""

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
