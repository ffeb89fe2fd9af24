"""The two shapes in which handlers see a call: an event with a context, and a WSGI environment."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from werkzeug.datastructures import EnvironHeaders, Headers, MultiDict

from tailrace_runtime.call import Call

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


@dataclass(frozen=True, slots=True)
class HttpEvent:
    """What a ``handle(event, context)`` gets of the request, with OpenFaaS's names.

    ``query`` keeps repeated keys (``getlist``); ``headers`` ignores case; ``path`` has no function name.
    """

    body: bytes
    headers: Headers
    method: str
    query: MultiDict[str, str]
    path: str


class Context:
    """What a ``handle(event, context)`` knows of its call and where it runs."""

    def __init__(self, function: str, call_id: str) -> None:
        self.function = function
        self.call_id = call_id
        self.hostname = socket.gethostname()


class StreamContext(Context):
    """A Context whose reply's head can be set until the first item is yielded.

    ``content_type`` counts for raw bodies only: events are always ``text/event-stream``. ``headers``
    stand beside those the runtime sets.

    Raises:
        RuntimeError, TypeError: status, content_type or headers are changed after the head went out.
    """

    def __init__(self, function: str, call_id: str) -> None:
        super().__init__(function, call_id)
        self._status = 200
        self._content_type: str | None = None
        self._is_sent = False
        self.headers: Mapping[str, str] = {}

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, value: int) -> None:
        self._check_open()
        self._status = value

    @property
    def content_type(self) -> str | None:
        return self._content_type

    @content_type.setter
    def content_type(self, value: str) -> None:
        self._check_open()
        self._content_type = value

    def seal(self) -> None:
        """The head goes out now: refuse later changes instead of losing them silently."""
        self._is_sent = True
        self.headers = MappingProxyType(dict(self.headers))

    def _check_open(self) -> None:
        if self._is_sent:
            raise RuntimeError("the head of the reply is already sent: set it before the first yield")


def event_of(call: Call) -> HttpEvent:
    """The event of a call that came over the asyncio server."""
    return HttpEvent(
        body=call.body,
        headers=Headers([(k.decode("latin-1"), v.decode("latin-1")) for k, v in call.headers]),
        method=call.method,
        query=_query(call.query.decode("latin-1")),
        path=unquote_to_bytes(call.path).decode(errors="replace"),
    )


def event_of_environ(environ: WSGIEnvironment) -> HttpEvent:
    """The event of a call that came over WSGI."""
    return HttpEvent(
        body=environ["wsgi.input"].read(),
        headers=EnvironHeaders(environ),
        method=environ["REQUEST_METHOD"],
        query=_query(environ["QUERY_STRING"]),
        path=environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),
    )


def environ_of(call: Call) -> WSGIEnvironment:
    """The WSGI environment of a call. Header names with ``_`` are dropped: they could pose as others.

    Source: PEP 3333.
    """
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(call.path).decode("latin-1"),
        "QUERY_STRING": call.query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(call.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in call.headers:
        if b"_" in raw_name:
            continue
        key = "HTTP_" + raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        if key == "HTTP_CONTENT_TYPE":
            environ["CONTENT_TYPE"] = value
        elif key not in ("HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"):
            glue = "; " if key == "HTTP_COOKIE" else ","
            environ[key] = environ[key] + glue + value if key in environ else value
    return environ


def _query(text: str) -> MultiDict[str, str]:
    return MultiDict(parse_qsl(text, keep_blank_values=True, errors="replace"))
