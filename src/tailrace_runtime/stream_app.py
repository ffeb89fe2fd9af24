"""Handlers of the kind ``stream``: what they yield becomes events or a raw body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from inspect import isawaitable
from typing import TYPE_CHECKING

from tailrace_runtime.call import Call
from tailrace_runtime.event import StreamContext, event_of, event_of_environ
from tailrace_runtime.framing import status_line
from tailrace_runtime.load import Handle
from tailrace_runtime.sse import END, encoder_for

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from tailrace_runtime.exchange import AsyncApp, Exchange

Encode = Callable[[object], bytes]
Headers = list[tuple[str, str]]


def stream_app(handle: Handle, *, function: str) -> WSGIApplication:
    """The WSGI app of a plain ``def`` handler. A HEAD is answered without it."""

    def serve(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        context = StreamContext(function, environ.get("HTTP_X_CALL_ID", ""))
        if environ["REQUEST_METHOD"] == "HEAD":
            start(*_head(context, is_events=True))
            return ()
        return _chunks(handle, environ, context, start)

    return serve


def _chunks(
    handle: Handle, environ: WSGIEnvironment, context: StreamContext, start: StartResponse
) -> Iterator[bytes]:
    items = _items(handle(event_of_environ(environ), context))
    for first in items:
        is_events, encode = encoder_for(first)
        start(*_head(context, is_events=is_events))
        yield encode(first)
        for item in items:
            yield encode(item)
        if is_events:
            yield END
        return
    start(*_head(context, is_events=True))
    yield END


def _items(result: object) -> Iterator[object]:
    if isawaitable(result) or isinstance(result, AsyncIterator):
        raise TypeError("handle gave something to await: declare it `async def handle`")
    if isinstance(result, Iterator):
        return result
    return iter(() if result is None else (result,))


def stream_async(handle: Handle, *, function: str) -> AsyncApp:
    """The app of an ``async def`` handler. A HEAD is answered without it."""

    async def serve(call: Call, exchange: Exchange) -> None:
        context = StreamContext(function, call.id)
        if call.method == "HEAD":
            exchange.start(*_head(context, is_events=True))
            exchange.finish()
            return
        result = handle(event_of(call), context)
        if isawaitable(result):
            result = await result
        await _stream(result, context, exchange)

    return serve


async def _stream(result: object, context: StreamContext, exchange: Exchange) -> None:
    end = END

    def begin(first: object) -> Encode:
        nonlocal end
        is_events, encode = encoder_for(first)
        end = END if is_events else b""
        exchange.start(*_head(context, is_events=is_events))
        return encode

    value = b""
    if isinstance(result, AsyncIterator):
        await exchange.relay(result, begin)
    elif isinstance(result, Iterator):
        raise TypeError("an async handler streams with an async generator, not with a plain one")
    elif result is not None:
        value = begin(result)(result)
    if not exchange.is_started:
        exchange.start(*_head(context, is_events=True))
    exchange.finish(value + end)


def _head(context: StreamContext, *, is_events: bool) -> tuple[str, Headers]:
    """Status and headers as the handler set them, with what the kind of body asks for."""
    context.seal()
    own = {"content-type", "x-tailrace-dialect"}
    headers = [(name, value) for name, value in context.headers.items() if name.lower() not in own]
    if is_events:
        headers += [("Content-Type", "text/event-stream"), ("X-Tailrace-Dialect", "native")]
    else:
        headers.append(("Content-Type", context.content_type or "application/octet-stream"))
    return status_line(context.status), headers
