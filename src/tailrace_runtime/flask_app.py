"""Handlers of the kinds ``flask`` and ``http``: a Flask app whose every request is the handler's."""

from __future__ import annotations

import os
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isawaitable
from typing import TYPE_CHECKING, cast

from flask import Flask, Response, request
from flask import json as flask_json
from werkzeug.exceptions import HTTPException

from tailrace_runtime.call import Call
from tailrace_runtime.event import Context, HttpEvent, environ_of
from tailrace_runtime.load import Handle

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from tailrace_runtime.exchange import AsyncApp, Exchange

Invoke = Callable[[], object]


class _HandlerApp(Flask):
    """Flask with one view for every method and path. Errors go to the server, not into a page."""

    def __init__(self, invoke: Invoke, folder: str) -> None:
        super().__init__("function", static_folder=None, root_path=folder)
        self.config["PROPAGATE_EXCEPTIONS"] = True
        self._invoke = invoke

    def dispatch_request(self, *_: object) -> ResponseReturnValue:
        request.view_args = {"path": request.path.lstrip("/")}
        return cast("ResponseReturnValue", self._invoke())


def flask_app(handle: Handle, *, kind: str, function: str, folder: str) -> Flask:
    """The WSGI app of a sync handler of kind ``flask`` or ``http``.

    Args:
        folder: Where handler.py lies; ``render_template`` looks into its ``templates``.
    """
    call_handler = invoke_http(handle, function) if kind == "http" else invoke_flask(handle)

    def invoke() -> object:
        result = call_handler()
        if isawaitable(result) or isinstance(result, AsyncIterator):
            raise TypeError("handle gave something to await: declare it `async def handle`")
        return http_reply(result) if kind == "http" else result

    return _HandlerApp(invoke, folder)


def invoke_flask(handle: Handle) -> Invoke:
    """Call ``handle(req)`` with the current request's body: str, or bytes where RAW_BODY is set."""
    is_raw = os.environ.get("RAW_BODY", "") in ("true", "True", "1")
    if is_raw:
        return lambda: handle(request.get_data())
    return lambda: handle(request.get_data(as_text=True))


def invoke_http(handle: Handle, function: str) -> Invoke:
    """Call ``handle(event, context)`` with the current request."""

    def invoke() -> object:
        event = HttpEvent(
            body=request.get_data(),
            headers=request.headers,
            method=request.method,
            query=request.args,
            path=request.path,
        )
        return handle(event, Context(function, request.headers.get("X-Call-Id", "")))

    return invoke


def http_reply(result: object) -> object:
    """What Flask answers for a python3-http handler's result.

    A dict is ``{statusCode=200, headers, body}``: a dict body becomes JSON, bytes and iterators pass as
    they are, anything else is its ``str()``. None is an empty 200; all else is Flask's.

    Source: python3-http template (contract, section 4).
    """
    if result is None:
        return ("", 200)
    if not isinstance(result, dict):
        return result
    body = result.get("body", "")
    if isinstance(body, dict):
        body = Response(flask_json.dumps(body), mimetype="application/json")
    elif body is None:
        body = ""
    elif isinstance(body, (Iterator, AsyncIterator)):
        body = Response(body)  # type: ignore[arg-type]  # an async one is iterated by `flask_async`
    elif not isinstance(body, (bytes, bytearray)):
        body = str(body)
    return (body, result.get("statusCode", 200), result.get("headers", {}))


def flask_async(handle: Handle, *, kind: str, function: str, folder: str) -> AsyncApp:
    """The app of an ``async def`` handler: it may use ``flask.request`` and return what Flask takes.

    A streamed body must be an async generator: a plain one would block every other call.
    """
    app = Flask("function", static_folder=None, root_path=folder)
    call_handler = invoke_http(handle, function) if kind == "http" else invoke_flask(handle)

    async def serve(call: Call, exchange: Exchange) -> None:
        with app.request_context(environ_of(call)):
            try:
                result = call_handler()
                if isawaitable(result):
                    result = await result
                response = _response(app, http_reply(result) if kind == "http" else result)
            except HTTPException as error:
                response = cast("Response", error.get_response(request.environ))
            try:
                await _send(response, exchange)
            finally:
                _close(response)

    return serve


def _close(response: Response) -> None:
    """What the handler wants to be called on close. The answer is out: a failure is for the log alone."""
    try:
        response.close()
    except Exception:
        traceback.print_exc()


def _response(app: Flask, result: object) -> Response:
    body, *more = result if isinstance(result, tuple) and result else (result,)
    if isinstance(body, AsyncIterator):
        body = Response(body)  # type: ignore[arg-type]  # `_send` iterates it
        result = (body, *more) if more else body
    return app.make_response(cast("ResponseReturnValue", result))


async def _send(response: Response, exchange: Exchange) -> None:
    headers = response.get_wsgi_headers(request.environ)
    body = response.response
    if request.method == "HEAD":
        exchange.start(response.status, headers.items())
        exchange.finish()
    elif isinstance(body, AsyncIterator):
        exchange.start(response.status, headers.items())
        exchange.announce()
        await exchange.relay(body, lambda _: _as_bytes)
        exchange.finish()
    elif response.is_sequence:
        exchange.start(response.status, headers.items())
        exchange.finish(response.get_data())
    else:
        raise TypeError("an async handler streams with an async generator, not with a plain one")


def _as_bytes(item: object) -> bytes:
    return item.encode() if isinstance(item, str) else cast("bytes", item)
