"""ASGI apps: the scope of a call, and HTTP's messages over an exchange.

Source: ASGI 3.0, HTTP and WebSocket messages 2.5.

How an app learns that its client left::

    it waits in receive()    http.disconnect at once; cancelled TOLD_S later, where it still runs
    anywhere else            cancelled at once, as every async handler is

What an app does after its last http.response.body is cancelled by nobody, and holds up no other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote_to_bytes

from tailrace_runtime.call import Call
from tailrace_runtime.exchange import FAIR_ITEMS
from tailrace_runtime.framing import status_line
from tailrace_runtime.journal import Journal
from tailrace_runtime.load import LoadFailed

if TYPE_CHECKING:
    from tailrace_runtime.exchange import AsyncApp, Exchange

Message = Mapping[str, object]
Scope = dict[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[object]]

VERSIONS = {"version": "3.0", "spec_version": "2.5"}
# An app that was told that its client left may clean up this long before it is cancelled.
TOLD_S = 1.0
# An app that was told and asks again, against all sense in a loop, must not keep the others waiting.
ASKS_AGAIN_S = 0.05
# Bytes of one WebSocket message; the variable changes it.
MESSAGE_LIMIT_BYTES = 1024 * 1024
MESSAGE_LIMIT_VARIABLE = "TAILRACE_WEBSOCKET_MAX_BYTES"
# What Starlette and FastAPI make of the word that the client left.
_LEAVING = ("ClientDisconnect", "WebSocketDisconnect")


class ClientLeft(OSError):
    """What send() raises when nobody is there to send to."""


def read_message_limit(env: Mapping[str, str]) -> int:
    """Bytes that one WebSocket message may have. Raises LoadFailed: the variable is no positive number."""
    text = env.get(MESSAGE_LIMIT_VARIABLE, "").strip()
    if not text:
        return MESSAGE_LIMIT_BYTES
    if not (text.isascii() and text.isdigit() and int(text)):
        raise LoadFailed(
            f"{MESSAGE_LIMIT_VARIABLE} is {text!r}, expected a number of bytes",
            hint="Write it in bytes: 4194304 is 4 MiB.",
        )
    return int(text)


def misplaced(kind: object) -> RuntimeError:
    """What send() raises for a message that cannot come now."""
    return RuntimeError(f"the app sent {kind!r} where the ASGI specification has no place for it")


def is_of_leaving(error: BaseException) -> bool:
    """Whether an app raised this because its client left, so that it is no fault to tell of."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, ClientLeft) or type(one).__name__ in _LEAVING:
            return True
        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return False


def asgi_app(app: App, journal: Journal, state: Mapping[str, object], *, message_limit: int) -> AsyncApp:
    """Serve each call by an ASGI app.

    Args:
        state: What its lifespan's startup left; each call gets a copy.
        message_limit: Bytes of one WebSocket message.
    """

    async def serve(call: Call, exchange: Exchange) -> None:
        scope = _scope(call) | {"state": dict(state)}
        if not exchange.is_websocket:
            await _HttpCall(call, exchange, journal).serve(
                app, scope | {"type": "http", "method": call.method}
            )
            return
        from tailrace_runtime.websocket import serve_websocket  # 50 ms that other calls need not wait for

        await serve_websocket(app, scope, call, exchange, journal=journal, message_limit=message_limit)

    return serve


def read_headers(message: Message) -> list[tuple[str, str]]:
    """The headers of an app's message. Raises AttributeError, TypeError: they are not pairs of bytes."""
    pairs = cast("Iterable[tuple[bytes, bytes]]", message.get("headers") or ())
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in pairs]


def _scope(call: Call) -> Scope:
    """What both kinds of scope hold. The gateway appends its client to X-Forwarded-For: the last is true."""
    hops = call.values(b"x-forwarded-for")
    client = hops[-1].rpartition(b",")[2].strip().decode("latin-1") if hops else ""
    return {
        "asgi": dict(VERSIONS),
        "http_version": "1.1",
        "scheme": "https" if call.values(b"x-forwarded-proto")[-1:] == [b"https"] else "http",
        "path": unquote_to_bytes(call.path).decode(errors="replace"),
        "raw_path": call.path,
        "query_string": call.query,
        "root_path": "",
        "extensions": {},
        "headers": [(name.lower(), value) for name, value in call.headers],
        "client": (client, 0) if client else None,
        "server": ("localhost", 80),
    }


class Reply:
    """The messages of a response, written to an exchange.

    Args:
        prefix: What their types begin with: ``http.response`` or ``websocket.http.response``.
    """

    def __init__(self, exchange: Exchange, prefix: str) -> None:
        self._exchange = exchange
        self._prefix = prefix
        self._count = 0
        self.is_whole = False

    async def send(self, message: Message) -> None:
        """Write one message; wait while the client is slow. What comes after the last is ignored.

        Raises:
            ClientLeft: nobody is there.
            RuntimeError, ValueError: the message is not one that can come here.
        """
        exchange, kind = self._exchange, message["type"]
        if self.is_whole:
            return
        if exchange.is_gone:
            raise ClientLeft("the client left")
        if kind == f"{self._prefix}.start" and not exchange.is_started:
            exchange.start(status_line(cast("int", message["status"])), read_headers(message))
            exchange.announce()
        elif kind == f"{self._prefix}.body" and exchange.is_started:
            await self._send_body(message)
        else:
            raise misplaced(kind)

    async def _send_body(self, message: Message) -> None:
        body = message.get("body") or b""
        if not isinstance(body, bytes):
            body = bytes(memoryview(cast("bytearray", body)))  # a str raises, a number is no length
        if not message.get("more_body"):
            self._exchange.finish(body)
            self.is_whole = True
            return
        self._exchange.write(body)
        self._count += 1
        if self._exchange.is_paused or not self._count % FAIR_ITEMS:
            await self._exchange.wait_writable()


class _HttpCall:
    """One HTTP call of an app, which runs in a task of its own: it may outlive its reply."""

    def __init__(self, call: Call, exchange: Exchange, journal: Journal) -> None:
        self._exchange = exchange
        self._journal = journal
        self._reply = Reply(exchange, "http.response")
        self._call_id = call.id
        self._body: bytes | None = call.body
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._is_closed = asyncio.Event()
        self._listeners = 0
        self._was_told = False
        self._error: BaseException | None = None

    async def serve(self, app: App, scope: Scope) -> None:
        """Run the app until its reply is whole or it ended. Raises what the app raised before that."""
        self._exchange.when_gone(self._lose)
        task = self._loop.create_task(self._run(app, scope, self._call_id))
        task.add_done_callback(self._end)
        while not self._over.done():
            try:
                await asyncio.shield(self._over)
            except asyncio.CancelledError:
                task.cancel()
        if not task.done():
            self._exchange.linger(task)
        elif not self._reply.is_whole:
            self._raise(task)

    async def _run(self, app: App, scope: Scope, call_id: str) -> None:  # noqa: ARG002  # see RUN
        try:
            await app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a SystemExit that left its task would end the loop
            if self._reply.is_whole:
                self._journal.failure(error)
            else:
                self._error = error

    def _raise(self, task: asyncio.Task[None]) -> None:
        """Tell how the app ended without a whole reply."""
        error, self._error = self._error, None
        if task.cancelled():
            raise asyncio.CancelledError
        if error is not None and not (self._exchange.is_gone and is_of_leaving(error)):
            raise error
        if not self._exchange.is_gone:
            raise RuntimeError("the app returned before its reply was whole")

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._was_told:
            await asyncio.sleep(ASKS_AGAIN_S)
        self._listeners += 1
        try:
            await self._is_closed.wait()
        finally:
            self._listeners -= 1
        self._was_told = True
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self._reply.send(message)
        if self._reply.is_whole and not self._is_closed.is_set():
            self._is_closed.set()
            self._loop.call_soon(self._end)  # after the app's own return, where it has nothing more to do

    def _end(self, _: object = None) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _lose(self) -> None:
        self._is_closed.set()
        if not self._reply.is_whole:
            self._exchange.stop_in(TOLD_S if self._listeners else 0.0)


# In whose frame `call_id` names the call that an app serves: for who asks what holds up the loop.
RUN = _HttpCall._run.__code__
