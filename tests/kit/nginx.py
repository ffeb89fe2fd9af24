"""nginx in front of an address, as people have it: with its default settings."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.needs import needs_nginx


@contextmanager
def stock_nginx(folder: Path, upstream: str, *, more: str = "") -> Iterator[str]:
    """The URL of a running nginx with its default settings in front of an address.

    Args:
        more: Directives of the location, each with its semicolon.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    temp = "".join(f"{kind}_temp_path {folder};" for kind in ("fastcgi", "uwsgi", "scgi", "proxy"))
    (folder / "nginx.conf").write_text(
        f"daemon off; error_log stderr error; pid {folder}/pid; events {{}} http {{ access_log off; {temp}"
        f" client_body_temp_path {folder}; server {{ listen 127.0.0.1:{port};"
        f" location / {{ proxy_pass {upstream}; {more} }} }} }}"
    )
    command = [str(needs_nginx()), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert nginx.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(10)
