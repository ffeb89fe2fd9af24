"""A package index on loopback with one package, behind a password; or one that never answers."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "builder", "hunter2-of-the-index"
PACKAGE = "tailrace-private-words"
_WHEEL = "tailrace_private_words-1.0-py3-none-any.whl"


@dataclass
class Index:
    """Where it answers; ``asked`` are the paths that were asked for, ``over`` lets silent ones end."""

    port: int
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}/simple"


@contextmanager
def package_index(*, is_silent: bool = False) -> Iterator[Index]:
    """An index until the context is left; a silent one takes requests and does not answer them."""
    wheel = _wheel()
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if is_silent:
                index.over.wait(60)
                return
            if self.headers.get("Authorization") != expected:
                self._answer(401, b"", "text/plain")
            elif self.path.rstrip("/").endswith(PACKAGE):
                digest = hashlib.sha256(wheel).hexdigest()
                page = f'<a href="/files/{_WHEEL}#sha256={digest}">{_WHEEL}</a>'
                self._answer(200, page.encode(), "text/html")
            elif self.path.endswith(_WHEEL):
                self._answer(200, wheel, "application/octet-stream")
            else:
                self._answer(404, b"", "text/plain")

        do_HEAD = do_GET

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a client that was killed

    with Server(("127.0.0.1", 0), Handler) as server:
        index = Index(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, name="index")
        thread.start()
        try:
            yield index
        finally:
            index.over.set()
            server.shutdown()
            thread.join(10)


def _wheel() -> bytes:
    name = PACKAGE.replace("-", "_")
    files = {
        f"{name}.py": "WORDS = 'from the private index'\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-1.0.dist-info/RECORD"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(record, "".join(f"{path},,\n" for path in [*files, record]))
    return out.getvalue()
