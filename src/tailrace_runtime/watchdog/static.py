"""Mode ``static``: files of one folder."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from tailrace_runtime.framing import status_line

if TYPE_CHECKING:
    from tailrace_runtime.call import Call
    from tailrace_runtime.exchange import Exchange

READ_BYTES = 256 * 1024


class Static:
    """Serves the files below a folder; of a folder its ``index.html``. Links that lead out of it are none."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).resolve()

    async def __call__(self, call: Call, exchange: Exchange) -> None:
        if call.method not in ("GET", "HEAD"):
            _tell(exchange, 405, b"only GET and HEAD are answered\n")
            return
        path = await asyncio.to_thread(self._find, call.path)
        if path is None:
            _tell(exchange, 404, b"there is no such file\n")
            return
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            exchange.start(status_line(200), [("Content-Type", kind), ("Content-Length", str(size))])
            left = size if call.method == "GET" else 0
            while left and (data := await asyncio.to_thread(file.read, min(left, READ_BYTES))):
                exchange.write(data)
                left -= len(data)
                await exchange.wait_writable()
            exchange.finish()

    def _find(self, raw: bytes) -> Path | None:
        try:
            path = (self._folder / unquote_to_bytes(raw).decode().lstrip("/")).resolve()
            if path.is_dir():
                path = (path / "index.html").resolve()
            return path if path.is_relative_to(self._folder) and path.is_file() else None
        except (ValueError, OSError):  # no UTF-8, a NUL, too long, a loop of links
            return None


def _tell(exchange: Exchange, status: int, words: bytes) -> None:
    exchange.start(status_line(status), [("Content-Type", "text/plain"), ("Content-Length", str(len(words)))])
    exchange.finish(words)
