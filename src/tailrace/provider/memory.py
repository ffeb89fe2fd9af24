"""A provider without processes, for tests: replicas are coroutines that serve real unix sockets.

It passes the conformance suite, so what works with it works with the others. Its replicas run a Python
callable, and can be told to fail, to hold their start back, and to die::

    provider = MemoryProvider(handler)
    provider.fail_starts("resize", HandlerNotLoaded("no module named numpy"))
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailrace.errors import InvalidDeployment, InvalidRequest, NotFound, TailraceError
from tailrace.model import FunctionSpec, Namespace
from tailrace.names import FunctionName, is_function_label, is_secret_name
from tailrace.provider.contract import Address, Exit

_HEAD_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class MemoryCall:
    """A request as a handler gets it: complete. Header names are lower-case."""

    function: FunctionName
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class MemoryReply:
    """What a handler answers. An iterator's items are sent as one chunk each, at once."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""


Handler = Callable[[MemoryCall], Awaitable[MemoryReply]]


async def echo(call: MemoryCall) -> MemoryReply:
    """The default handler: the body comes back."""
    return MemoryReply(body=call.body)


class MemoryReplica:
    """A replica of `MemoryProvider`. ``die`` ends it as a crash would: calls that run are cut."""

    def __init__(self, function: FunctionName, replica_id: str, path: str, handler: Handler) -> None:
        self.id = replica_id
        self.address = Address(path=path)
        self.pid = 0
        self.import_s = 0.0
        self.is_stubborn = False
        self._function = function
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._retiring: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def listen(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_unix_server(self._serve, self.address.path, limit=_HEAD_LIMIT)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._ended.done()

    async def wait_retiring(self) -> str:
        return await asyncio.shield(self._retiring)

    def retire(self, reason: str) -> None:
        """Take no more calls, as a runtime does that cannot stop one of them."""
        self._close_server()
        self._retiring.set_result(reason)

    async def wait_exit(self) -> Exit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> Exit:
        """As the contract says; calls that run may finish within the grace."""
        if not self._ended.done():
            self._is_draining = True
            self._close_server()
            waiting: list[asyncio.Future[Any]] = [*self._work]
            if self.is_stubborn:
                waiting.append(self._ended)
            if grace_s > 0 and waiting:
                await asyncio.wait(waiting, timeout=grace_s)
            self.die(-9 if self._work or self.is_stubborn or not grace_s else 0)
        await asyncio.gather(*self._connections, return_exceptions=True)
        return await self.wait_exit()

    def die(self, code: int = -9, last_words: str = "") -> None:
        """End at once, as the signal or exit code says. Nothing happens when it has ended already."""
        if self._ended.done():
            return
        self._close_server()
        for connection in self._connections:
            connection.cancel()
        self._ended.set_result(Exit(code, last_words))
        if not self._retiring.done():
            self._retiring.set_result("")

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            Path(self.address.path).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # start_unix_server runs this in one
        self._connections.add(task)
        try:
            while not self._is_draining and await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass  # the other side left, or is no HTTP client
        except asyncio.CancelledError:
            # die: the connection is cut. Passed on, asyncio would log it as an error of ours.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One call; the handler is cancelled when the client leaves. False when the connection is over."""
        call = await self._read_call(reader)
        work = asyncio.create_task(self._reply(call, writer))
        left = asyncio.create_task(reader.read(1))
        self._work.add(work)
        try:
            await asyncio.wait([work, left], return_when=asyncio.FIRST_COMPLETED)
            return work.done() and not left.done()
        finally:
            self._work.discard(work)
            for task in (work, left):
                task.cancel()
            await asyncio.gather(work, left, return_exceptions=True)

    async def _read_call(self, reader: asyncio.StreamReader) -> MemoryCall:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join([chunk async for chunk in _read_chunks(reader)])
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return MemoryCall(self._function, method, target, headers, body)

    async def _reply(self, call: MemoryCall, writer: asyncio.StreamWriter) -> None:
        try:
            is_health = call.target.split("?")[0] in ("/_/health", "/_/ready")
            reply = MemoryReply(body=b"OK") if is_health else await self._handler(call)
        except Exception as exc:
            fault = {"X-Tailrace-Fault": "function", "Content-Type": "text/plain"}
            reply = MemoryReply(500, fault, f"{type(exc).__name__} in the handler\n".encode())
        framing = "Transfer-Encoding: chunked"
        if isinstance(reply.body, bytes):
            framing = f"Content-Length: {len(reply.body)}"
        headers = [f"{key}: {value}" for key, value in reply.headers.items()]
        head = [f"HTTP/1.1 {reply.status} Memory", *headers, framing, "", ""]
        writer.write("\r\n".join(head).encode("latin-1"))
        if isinstance(reply.body, bytes):
            writer.write(b"" if call.method == "HEAD" else reply.body)
        else:
            await _write_chunks(reply.body, writer)
        await writer.drain()


class MemoryProvider:
    """A provider whose replicas live in this process. Everything it keeps is open to look at.

    Args:
        handler: Answers the calls of functions that `script` names no other for.
    """

    name = "memory"

    def __init__(self, handler: Handler = echo) -> None:
        self.specs: dict[FunctionName, FunctionSpec] = {}
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.replicas: dict[str, MemoryReplica] = {}
        # Digests that can be started; None accepts all.
        self.bundles: set[str] | None = None
        self._handler = handler
        self._scripts: dict[str, Handler] = {}
        self._failures: dict[str, list[TailraceError]] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._stubborn: set[str] = set()
        self._folder = Path(tempfile.mkdtemp(prefix="tr-memory-", dir="/tmp"))

    def script(self, function: str, handler: Handler) -> None:
        """Let this function's replicas, also those that run, answer with handler."""
        self._scripts[function] = handler

    def fail_starts(self, function: str, error: TailraceError, *, times: int = 1) -> None:
        """Let the next starts of this function raise error."""
        self._failures.setdefault(function, []).extend([error] * times)

    def hold_starts(self, function: str) -> asyncio.Event:
        """Let starts of this function wait until the event is set."""
        return self._held.setdefault(function, asyncio.Event())

    def make_stubborn(self, function: str) -> None:
        """Let replicas of this function not end when they are asked, only when they are killed."""
        self._stubborn.add(function)

    async def prepare(self, spec: FunctionSpec) -> None:
        if self.bundles is not None and spec.bundle not in self.bundles:
            raise NotFound(f"bundle {spec.bundle} is not in the store")

    async def start(self, spec: FunctionSpec, replica_id: str) -> MemoryReplica:
        await self.prepare(spec)
        missing = [name for name in spec.secrets if (spec.name.namespace, name) not in self.secrets]
        if missing:
            raise InvalidDeployment(f"secrets that do not exist: {', '.join(missing)}")
        function = spec.name.name
        if (held := self._held.get(function)) is not None:
            await held.wait()
        if failures := self._failures.get(function):
            raise failures.pop(0)
        path = str(self._folder / f"{replica_id}.sock")
        replica = MemoryReplica(spec.name, replica_id, path, self._dispatch)
        replica.is_stubborn = function in self._stubborn
        await replica.listen()
        self.replicas[replica_id] = replica
        return replica

    async def load_specs(self) -> list[FunctionSpec]:
        return sorted(self.specs.values(), key=lambda spec: spec.name)

    async def save_spec(self, spec: FunctionSpec) -> None:
        self.specs[spec.name] = spec

    async def forget_spec(self, name: FunctionName) -> None:
        self.specs.pop(name, None)

    async def list_namespaces(self) -> list[Namespace]:
        return [self.namespaces[name] for name in sorted(self.namespaces)]

    async def save_namespace(self, namespace: Namespace) -> None:
        self.namespaces[namespace.name] = namespace

    async def forget_namespace(self, name: str) -> bool:
        return self.namespaces.pop(name, None) is not None

    async def list_secrets(self, namespace: str) -> list[str]:
        _check_names(namespace)
        return sorted(name for space, name in self.secrets if space == namespace)

    async def list_secret_namespaces(self) -> list[str]:
        return sorted({space for space, _ in self.secrets})

    async def set_secret(
        self, namespace: str, name: str, value: bytes, *, is_there: bool | None = None
    ) -> bool:
        _check_names(namespace, name)
        if is_there not in (None, (namespace, name) in self.secrets):
            return False
        self.secrets[namespace, name] = value
        return True

    async def remove_secret(self, namespace: str, name: str) -> bool:
        _check_names(namespace, name)
        return self.secrets.pop((namespace, name), None) is not None

    async def aclose(self) -> None:
        for replica in self.replicas.values():
            await replica.stop(0)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _dispatch(self, call: MemoryCall) -> MemoryReply:
        return await self._scripts.get(call.function.name, self._handler)(call)


async def _write_chunks(body: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    try:
        async for item in body:
            if item:
                writer.write(b"%x\r\n%b\r\n" % (len(item), item))
                await writer.drain()
    except Exception:
        writer.transport.abort()  # never a clean end after a failure
    else:
        writer.write(b"0\r\n\r\n")


async def _read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers


def _check_names(namespace: str, name: str = "x") -> None:
    if not is_function_label(namespace) or not is_secret_name(name):
        raise InvalidRequest(f"'{name[:80]}' in '{namespace[:80]}' cannot be a secret's name")
