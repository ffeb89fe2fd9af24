"""A language model that only pretends, and notes to the millisecond when its clients hang up.

How it answers stands in the request's model name, so one server plays all parts at once:
``first=0.1,gap=0.02,count=50``: seconds to the first chunk, seconds between chunks, number of chunks.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LIMIT_S = 20.0
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"


@dataclass
class Plan:
    """How one request is answered. A gap or first of over LIMIT_S is for ever, as tests see it."""

    first: float = 0.0
    gap: float = 0.02
    count: float = 50

    @classmethod
    def parse(cls, name: str) -> Plan:
        """The plan of a model's name; anything but ``key=number`` is ignored."""
        pairs = (part.partition("=") for part in name.split(","))
        return cls(**{key: float(value) for key, _, value in pairs if value and key in vars(cls())})


@dataclass
class Line:
    """One connection to the model. ``sent`` counts chunks; times are monotonic seconds."""

    requested: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    is_streaming: bool = False
    sent: int = 0
    closed_at: float = 0.0
    completed: bool = False


class Model:
    """A running model: where it listens and every connection it ever had."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.changed = threading.Condition()
        self.url = ""

    def wait_line(self, number: int = 0) -> Line:
        """The connection of this number, once its request is there."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.lines) > number, LIMIT_S), "nobody asked the model"
        assert self.lines[number].requested.wait(LIMIT_S)
        return self.lines[number]

    def count_open(self) -> int:
        """Connections that are not closed."""
        with self.changed:
            return sum(not line.closed.is_set() for line in self.lines)


class _Connection(asyncio.Protocol):
    def __init__(self, model: Model) -> None:
        self._model = model
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.line = Line()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        with self._model.changed:
            self._model.lines.append(self.line)
            self._model.changed.notify_all()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if end and len(body) == int(fields.get(b"content-length", b"0")):
            self._buffer = b""
            self._task = asyncio.get_running_loop().create_task(self._answer(json.loads(body)))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.line.closed_at = time.monotonic()
        self.line.closed.set()
        if self._task is not None:
            self._task.cancel()

    async def _answer(self, request: dict[str, object]) -> None:
        plan = Plan.parse(str(request["model"]))
        self.line.is_streaming = bool(request.get("stream"))
        self.line.requested.set()
        await asyncio.sleep(plan.first)
        if not self.line.is_streaming:
            message = {"role": "assistant", "content": "whole"}
            body = _chunk("chat.completion", message=message, finish_reason="stop")
            self._transport.write(
                _HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            return
        self._transport.write(_HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(int(plan.count)):
            self._write(_chunk("chat.completion.chunk", delta={"content": f"w{number} "}))
            self.line.sent += 1
            await asyncio.sleep(plan.gap)
            await self._writable.wait()
        self._write(_chunk("chat.completion.chunk", delta={}, finish_reason="stop"))
        self._write(b"[DONE]")
        self._transport.write(b"0\r\n\r\n")
        self.line.completed = True

    def _write(self, data: bytes) -> None:
        event = b"data: %b\n\n" % data
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))


def _chunk(kind: str, *, finish_reason: str | None = None, **part: object) -> bytes:
    choice = {"index": 0, "finish_reason": finish_reason, **part}
    reply = {"id": "c", "object": kind, "created": 0, "model": "m", "choices": [choice]}
    return json.dumps(reply).encode()


@contextmanager
def running_model() -> Iterator[Model]:
    """A model on a free loopback port, in a thread of this process."""
    model, is_listening, loop = Model(), threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        server = await loop.create_server(lambda: _Connection(model), "127.0.0.1", 0)
        model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        is_listening.set()
        await done.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert is_listening.wait(LIMIT_S)
    try:
        yield model
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(LIMIT_S)
