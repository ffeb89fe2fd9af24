"""The mock's listener: connections, routes and HTTP framing around `Answer`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import struct
import time
from http import HTTPStatus
from itertools import count
from typing import cast
from urllib.parse import parse_qsl

from tailrace.errors import InvalidRequest
from tailrace.llm.behaviour import Behaviour
from tailrace.llm.loopback import check_loopback
from tailrace.llm.mock.answer import Answer
from tailrace.llm.mock.ask import PATHS, Ask, read_ask
from tailrace.llm.mock.dialects import dialect_of, encode, error_object
from tailrace.llm.mock.embeddings import embed
from tailrace.llm.mock.record import ConnectionLog, RequestRecord
from tailrace.llm.mock.request import BadRequest, Request, RequestReader
from tailrace.ports import bind_tcp

# Beyond this many at once somebody tests the wrong thing; a connection costs some 10 KiB.
MAX_CONNECTIONS = 20_000
MODEL = "mock"
EMBEDDINGS = "/v1/embeddings"
_LONGEST_WAIT_S = 60.0


async def start_mock(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    behaviour: Behaviour | None = None,
    accept_s: float = 0.0,
    api_key: str | None = None,
) -> MockServer:
    """A mock model that listens on loopback.

    Args:
        port: 0 takes a free one.
        behaviour: How it answers unless a request says otherwise.
        accept_s: Seconds before it looks at what a new connection sends.
        api_key: What requests must bring as bearer token; None: anything goes.
    Raises:
        InvalidRequest: the host is not loopback.
        AddressTaken: the port belongs to somebody else.
    """
    check_loopback(host)
    server = MockServer(behaviour or Behaviour(), accept_s, api_key)
    sock = bind_tcp(host, port)
    await server.listen(sock)
    return server


class MockServer:
    """A running mock. ``url`` has no path; ``base_url`` is what OpenAI clients take.

    ``log`` tells what happened on every connection. Whoever started it calls `aclose`.
    """

    def __init__(self, behaviour: Behaviour, accept_s: float, api_key: str | None) -> None:
        self.behaviour = behaviour
        self.accept_s = accept_s
        self.api_key = api_key
        self.log = ConnectionLog()
        self.url = ""
        self.tasks: set[asyncio.Task[None]] = set()
        self.connections: set[_Connection] = set()
        self._serials = count(1)
        self._listener: asyncio.Server | None = None
        self._is_empty: asyncio.Event | None = None

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a listening socket, which is the server's from here on."""
        address = sock.getsockname()
        host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
        self.url = f"http://{host}:{address[1]}"
        self._listener = await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=sock)

    async def aclose(self) -> None:
        """Stop listening and reset every connection that is still open."""
        if self._listener is not None:
            self._listener.close()
        for task in self.tasks:
            task.cancel()
        for connection in list(self.connections):
            connection.reset()
        if self.connections:  # abort() closes on the loop's next turn
            self._is_empty = asyncio.Event()
            await self._is_empty.wait()

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections and self._is_empty is not None:
            self._is_empty.set()

    def next_serial(self) -> int:
        return next(self._serials)


class _Connection(asyncio.Protocol):
    def __init__(self, server: MockServer) -> None:
        self._server = server
        self._reader = RequestReader()
        self._answer: Answer | None = None
        # Whether the reply to the current request has been sent entirely.
        self._is_idle = True
        self._keep_alive = True
        self._is_chunked = True
        self._record: RequestRecord | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = self._transport.get_extra_info("peername")
        self._connection = self._server.log.open(peer[1] if peer else 0)
        self._server.connections.add(self)
        if len(self._server.connections) > MAX_CONNECTIONS:
            self._keep_alive = False
            self.send_error(503, "too many connections", "server_error")
        elif self._server.accept_s:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(self._server.accept_s, self._accept)

    def _accept(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._serve_checked(data)

    def _serve_checked(self, data: bytes = b"") -> None:
        try:
            self._reader.feed(data)
            self._serve_next()
        except BadRequest as bad:
            self._keep_alive = False
            if self._is_idle:
                self.send_error(bad.status, bad.message, "invalid_request_error")
            else:
                self.reset()

    def _serve_next(self) -> None:
        while self._is_idle and not self._transport.is_closing():
            request = self._reader.next()
            if request is None:
                if self._reader.wants_continue():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._is_idle = False
            self._keep_alive = request.keep_alive
            self._is_chunked = request.http_11
            self._route(request)

    def _route(self, request: Request) -> None:
        path, _, query = request.target.partition("?")
        if path in PATHS:
            if self._check(request, "POST") and self._is_allowed(request):
                self._ask(path, request)
        elif path == EMBEDDINGS:
            if self._check(request, "POST") and self._is_allowed(request):
                self._embed(request.body)
        elif path == "/v1/models":
            if self._check(request, "GET") and self._is_allowed(request):
                listed = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tailrace"}
                self._send_json({"object": "list", "data": [listed]})
        elif path == "/health":
            self._connection.is_control = True
            self._send_json({"status": "ok"})
        elif path == "/_mock/connections":
            self._connection.is_control = True
            self._control(request.method, query)
        else:
            known = ", ".join([*PATHS, EMBEDDINGS, "/v1/models", "/health", "/_mock/connections"])
            self.send_error(404, f"no route {path[:200]}; known: {known}", "invalid_request_error")

    def _embed(self, body: bytes) -> None:
        try:
            self._send_json(embed(body))
        except InvalidRequest as bad:
            self.send_error(400, bad.message, "invalid_request_error")

    def _check(self, request: Request, method: str) -> bool:
        if request.method != method:
            self.send_error(
                405, f"{request.method[:20]} is not taken here, {method} is", "invalid_request_error"
            )
        return request.method == method

    def _is_allowed(self, request: Request) -> bool:
        key = self._server.api_key
        given = request.headers.get("authorization", "")
        if key is None or hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            return True
        self.send_error(401, "the API key is not the one this mock was started with", "invalid_request_error")
        return False

    def _ask(self, path: str, request: Request) -> None:
        try:
            ask = read_ask(PATHS[path], request.body, self._server.behaviour)
        except InvalidRequest as invalid:
            self.send_error(400, invalid.text, "invalid_request_error")
            return
        record = RequestRecord(path, ask.model, ask.stream, time.monotonic())
        self._record = record
        self._connection.requests.append(record)
        self._server.log.notify()
        if ask.behaviour.status:
            record.outcome = "status"
            self._fail(ask)
            return
        log = self._server.log
        self._answer = Answer(ask, dialect_of(ask, self._server.next_serial()), self, record, log.notify)
        self._answer.start()

    def _fail(self, ask: Ask) -> None:
        status = ask.behaviour.status
        kind = {429: "rate_limit_exceeded", 401: "invalid_request_error"}.get(status, "server_error")
        text = f"the mock was told to answer {status}"
        self.send_error(status, text, kind, ask.behaviour.retry_after_s)
        self._server.log.notify()

    def _control(self, method: str, query: str) -> None:
        log = self._server.log
        if method == "DELETE":
            log.clear()
            self._send_json({"cleared": True})
            return
        try:
            wait_s, closed = _read_wait(query)
        except ValueError:
            self.send_error(
                400, "known keys: wait_s (seconds), client_closed (count)", "invalid_request_error"
            )
            return
        task = asyncio.get_running_loop().create_task(self._report(wait_s, closed))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _report(self, wait_s: float, closed: int) -> None:
        """Send the connections once the client has closed that many of them, or the wait is over."""
        log = self._server.log
        # On a time-out the reader sees from the list that it did not happen.
        with contextlib.suppress(TimeoutError):
            await log.wait_until(lambda seen: seen.client_closed >= closed, timeout_s=wait_s)
        if not self._transport.is_closing():
            listed = [connection.as_json() for connection in log]
            self._send_json({"now": time.monotonic(), "connections": listed})

    def pause_writing(self) -> None:
        if self._answer is not None:
            self._answer.pause()

    def resume_writing(self) -> None:
        if self._answer is not None:
            self._answer.resume()

    def eof_received(self) -> None:
        # A client that says no more has left: nobody waits for an answer on a half-closed connection.
        self._client_left()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._client_left()
        self._server.forget(self)

    def _client_left(self) -> None:
        if self._answer is not None:
            self._answer.stop()
        record = self._record
        if (
            record is not None
            and record.outcome in ("running", "stall")
            and not self._transport_closed_by_us()
        ):
            record.outcome = "client_left"
        self._server.log.close(self._connection, "client")

    def _transport_closed_by_us(self) -> bool:
        return self._connection.closed_by == "server"

    # What an answer needs.

    def send_head(self, status: int, content_type: str, length: int | None, *more: str) -> None:
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", f"content-type: {content_type}", *more]
        self._is_chunked = self._is_chunked and length is None
        if length is not None:
            lines.append(f"content-length: {length}")
        elif self._is_chunked:
            lines += ["transfer-encoding: chunked", "cache-control: no-cache"]
        else:
            self._keep_alive = False
        if not self._keep_alive:
            lines.append("connection: close")
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send_body(self, pieces: list[bytes]) -> None:
        if self._is_chunked:
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        self._transport.write(b"".join(pieces))

    def end_body(self) -> None:
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._answer = None
        if self._keep_alive:
            self._is_idle = True
            # On a later turn, so a thousand pipelined requests are no recursion.
            asyncio.get_running_loop().call_soon(self._serve_checked)
        else:
            self._server.log.close(self._connection, "server")
            self._transport.close()

    def send_error(self, status: int, message: str, kind: str, retry_after_s: int | None = None) -> None:
        more = () if retry_after_s is None else (f"retry-after: {retry_after_s}",)
        body = encode(error_object(message, kind))
        self.send_head(status, "application/json", len(body), *more)
        self.send_body([body])
        self.end_body()

    def _send_json(self, value: object) -> None:
        body = encode(value)
        self.send_head(200, "application/json", len(body))
        self.send_body([body])
        self.end_body()

    def cut(self) -> None:
        """Close without the end of the body: a FIN where more was promised."""
        self._answer = None
        self._server.log.close(self._connection, "server")
        self._transport.close()

    def reset(self) -> None:
        """Close with a TCP RST, whatever is still unsent."""
        self._answer = None
        self._server.log.close(self._connection, "server")
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            # Linger on with 0 s: close() sends RST. Source: socket(7), SO_LINGER.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _phrase(status: int) -> str:
    """A status's words; those of 529 and the like stand in no registry."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _read_wait(query: str) -> tuple[float, int]:
    """Seconds to wait and connections to wait for. ValueError: the query says something else."""
    wishes = dict(parse_qsl(query, strict_parsing=True)) if query else {}
    wait_s, closed = float(wishes.pop("wait_s", "0")), int(wishes.pop("client_closed", "0"))
    if wishes or not 0 <= wait_s <= _LONGEST_WAIT_S:
        raise ValueError
    return wait_s, closed
