"""An HTTP server that answers with exactly the bytes it was told, at the times it was told.

For tests of clients: what a stream does to a parser depends on where its bytes are cut and how it ends,
so the test decides both. Each connection serves one request.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

EVENT_STREAM = "text/event-stream; charset=utf-8"
# A client that does not read, or a test that forgot one, must not hold the server's end for ever.
_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Script:
    """One answer.

    Args:
        pieces: Each is written as one chunk of its own.
        is_cut: Whether the connection is closed without the last chunk that says the body is whole.
        is_reset: The same by RST, which may also lose bytes that the client has not read.
        pause_s: Seconds between two pieces, so that a client reads them one by one; also after the head.
    """

    pieces: tuple[bytes, ...]
    is_cut: bool = False
    is_reset: bool = False
    pause_s: float = 0.004
    content_type: str = EVENT_STREAM
    status: str = "200 OK"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was served. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """Answers ``/s/NAME`` and everything below it with the script of that name, whatever the method.

    Files answer their own path. A script that is asked for again although it was served as often as
    ``repeats`` says is answered 204, which tells an EventSource to stay away.
    """

    port: int
    scripts: dict[str, Script] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    repeats: int = 1000
    asked: list[Asked] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url_of(self, name: str) -> str:
        """Where the script is served; a client may put its own path behind it."""
        return f"{self.url}/s/{name}"

    def of(self, name: str) -> list[Asked]:
        """The requests for one script, in order."""
        return [one for one in list(self.asked) if one.path.split("/")[2:3] == [name]]

    def wait_asked(self, path: str, *, timeout_s: float) -> Asked:
        """The first request for this path, once it came; TimeoutError when it does not within timeout_s."""
        with self.changed:
            if not self.changed.wait_for(lambda: any(one.path == path for one in self.asked), timeout_s):
                raise TimeoutError(f"no request for {path} within {timeout_s:g} s")
            return next(one for one in self.asked if one.path == path)


@contextlib.contextmanager
def scripted_server(
    scripts: Mapping[str, Script] | None = None, *, repeats: int = 1000
) -> Iterator[ScriptedServer]:
    """A running server on a free port of loopback; at the end its threads are joined."""
    with _Listener(("127.0.0.1", 0), _Connection) as listener:
        served = ScriptedServer(listener.server_address[1], dict(scripts or {}), repeats=repeats)
        listener.served = served
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,), name="scripted server")
        thread.start()
        try:
            yield served
        finally:
            listener.shutdown()
            thread.join()


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128
    served: ScriptedServer


class _Connection(socketserver.StreamRequestHandler):
    timeout = _PATIENCE_S
    disable_nagle_algorithm = True
    wbufsize = 0
    server: _Listener

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client is free to leave whenever it likes
            asked = self._read()
            if asked is not None:
                self._answer(asked)

    def _read(self) -> Asked | None:
        line = self.rfile.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            return None  # a browser's spare connection, closed unused
        headers = {}
        while (header := self.rfile.readline(65536)) not in (b"\r\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", "0")))
        return Asked(line[0], line[1].partition("?")[0], headers, body)

    def _answer(self, asked: Asked) -> None:
        served = self.server.served
        with served.changed:
            served.asked.append(asked)
            served.changed.notify_all()
        folder, _, name = asked.path.removeprefix("/").partition("/")
        script = served.scripts.get(name.partition("/")[0]) if folder == "s" else None
        if script is not None and len(served.of(name.partition("/")[0])) > served.repeats:
            self._whole("204 No Content", "text/plain", b"")
        elif script is not None:
            self._play(script)
        elif asked.path in served.files:
            self._whole("200 OK", *served.files[asked.path])
        else:
            self._whole("404 Not Found", "text/plain", b"no such script or file\n")

    def _whole(self, status: str, content_type: str, body: bytes) -> None:
        length = "" if status.startswith("204") else f"Content-Length: {len(body)}\r\n"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{length}Connection: close\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def _play(self, script: Script) -> None:
        self.wfile.write(
            f"HTTP/1.1 {script.status}\r\nContent-Type: {script.content_type}\r\nCache-Control: no-cache\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        )
        for piece in script.pieces:
            time.sleep(script.pause_s)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        time.sleep(script.pause_s)
        if script.is_reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif not script.is_cut:
            self.wfile.write(b"0\r\n\r\n")
