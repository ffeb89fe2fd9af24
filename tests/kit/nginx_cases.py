"""A real nginx that stands before scripted upstreams: one server, socket and upstream per case."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.kit import oracle
from tests.kit.hostile import Outcome, Passed
from tests.kit.oracle import Asked
from tests.kit.replies import Got

# nginx gives up on what does not come after these, so that a case that waits ends.
_CONFIG = """
daemon off; worker_processes 1; error_log stderr emerg; pid {folder}/pid; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; send_timeout 2s;
  lingering_close off; proxy_http_version 1.1; proxy_set_header Connection "";
  client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
{servers}
}}
"""
_SERVER = "  server {{ listen unix:{folder}/l{n}; location / {{ proxy_pass http://unix:{folder}/u{n}; }} }}"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_LIMIT_S = 8.0


def _next(held: bytes) -> tuple[Passed, bytes] | None:
    """The next complete request in what an upstream heard, also one that h11 would refuse; and the rest."""
    asked = oracle.h11_request(held) if held else None
    if isinstance(asked, Asked) and asked.body is not None:
        return Passed(asked.method, asked.target, asked.body), asked.rest
    if isinstance(asked, str) and b"\r\n\r\n" in held:
        head, _, rest = held.partition(b"\r\n\r\n")
        method, target, *_ = (*head.split(b" "), b"", b"")
        return Passed(method, target), rest
    return None


class Cases:
    """What upstream number n got and answers, and how nginx is reached for it."""

    def __init__(self, folder: Path, answers: list[bytes | None]) -> None:
        self.folder = folder
        self.answers = answers
        self.heard: list[bytes] = [b""] * len(answers)

    async def serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Upstream number n: answers 200 while it has no answer of its own, else that and the end."""
        answer = self.answers[number]
        held = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while data := await asyncio.wait_for(reader.read(65536), _LIMIT_S):
                self.heard[number] += data
                held += data
                while (found := _next(held)) is not None:
                    held = found[1]
                    writer.write(_OK if answer is None else answer)
                    if answer is not None:
                        await writer.drain()
                        writer.close()
                        return
        writer.close()

    async def ask(self, number: int, data: bytes) -> tuple[bytes, bool]:
        """Everything that nginx answers to these bytes, and whether it ended without a reset."""
        reader, writer = await asyncio.open_unix_connection(f"{self.folder}/l{number}")
        raw = b""
        try:
            writer.write(data)
            while piece := await asyncio.wait_for(reader.read(65536), _LIMIT_S):
                raw += piece
        except (ConnectionError, TimeoutError):
            return raw, False
        finally:
            writer.transport.abort()
        return raw, True


@contextlib.asynccontextmanager
async def nginx(program: Path, answers: list[bytes | None]) -> AsyncIterator[Cases]:
    """nginx with its defaults (but for time limits) before as many upstreams as there are answers."""
    with tempfile.TemporaryDirectory(prefix="tr-") as name:
        folder = Path(name)
        cases = Cases(folder, answers)
        served = [functools.partial(cases.serve, n) for n in range(len(answers))]
        servers = [await asyncio.start_unix_server(serve, folder / f"u{n}") for n, serve in enumerate(served)]
        listed = "\n".join(_SERVER.format(folder=folder, n=n) for n in range(len(answers)))
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "conf").write_text(_CONFIG.format(folder=folder, user=user, servers=listed))
        child = _start(program, folder)
        try:
            await _wait_up(child, folder / f"l{len(answers) - 1}")
            yield cases
        finally:
            child.terminate()
            child.communicate(timeout=10)
            for server in servers:
                server.close()


def _start(program: Path, folder: Path) -> subprocess.Popen[str]:
    command: list[str | Path] = [program, "-c", folder / "conf", "-p", folder]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


async def _wait_up(child: subprocess.Popen[str], path: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.close()
            return
        assert child.poll() is None, child.communicate()[1]
        await asyncio.sleep(0.02)
    raise AssertionError("nginx did not start")


def version(program: Path) -> str:
    """nginx's version, such as ``1.22.1``."""
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return told.strip().rpartition("/")[2].partition(" ")[0]


async def outcomes(program: Path, requests: list[bytes]) -> list[tuple[Outcome, ...]]:
    """What nginx does with each of these clients' bytes: what it passes on, then what it refuses with."""
    async with nginx(program, [None] * len(requests)) as cases:
        got = await asyncio.gather(*(cases.ask(n, data) for n, data in enumerate(requests)))
        return [(*passed(heard), *_refusals(raw)) for heard, (raw, _) in zip(cases.heard, got, strict=True)]


def passed(heard: bytes) -> list[Passed]:
    """The requests in what an upstream heard; a last one that is not complete is left out."""
    found: list[Passed] = []
    while (one := _next(heard)) is not None:
        found.append(one[0])
        heard = one[1]
    return found


def _refusals(raw: bytes) -> list[int]:
    if raw.startswith(b"<html>"):
        return [400]  # an error page in the manner of HTTP/0.9
    return [status for found in _STATUS.findall(raw) if (status := int(found)) >= 400]


async def replies(program: Path, answers: list[bytes]) -> list[Got | str]:
    """What nginx's client gets of each of these upstreams' bytes, or what it does instead in words."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with nginx(program, [*answers]) as cases:
        got = await asyncio.gather(*(cases.ask(n, request) for n in range(len(answers))))
    return [_got(raw, is_clean=is_clean) for raw, is_clean in got]


def _got(raw: bytes, *, is_clean: bool) -> Got | str:
    if not raw:
        return "closes"
    status = _STATUS.match(raw)
    if status is None:
        return "passes it on as it is"
    whole = oracle.h11_reply(raw, is_over=is_clean)
    if not isinstance(whole, oracle.Answered):
        return Got(int(status[1]), raw.partition(b"\r\n\r\n")[2])
    if whole.status >= 500:
        return Got(whole.status, b"")
    if whole.body is None:
        return Got(whole.status, oracle.h11_part(raw), is_whole=False)
    return Got(whole.status, whole.body)
