"""The `tailrace` command as a person runs it: a process with a home, a folder, and no surroundings."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_MAIN = "from tailrace.cli.main import main; main()"
# An environment is built from a cache or an index; everything else answers in a second.
LIMIT_S = 60.0
# As a variable's value: it is not set, not even to what the tests set it to.
DEFAULT = "<default>"


@dataclass(frozen=True)
class Shell:
    """Runs commands in ``folder``; ``env`` is added to a bare environment whose HOME is the folder."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *args: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *args],
            cwd=self.folder, env=self._environ(env), input=stdin, capture_output=True, timeout=LIMIT_S,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def run_unread(self, *args: str) -> subprocess.CompletedProcess[str]:
        """One command to its end, its stdout a pipe whose reader has left; only stderr is kept."""
        reader, writer = os.pipe()
        os.close(reader)
        try:
            return subprocess.run(
                [sys.executable, "-c", _MAIN, *args],
                cwd=self.folder, env=self._environ({}), stdin=subprocess.DEVNULL, stdout=writer,
                stderr=subprocess.PIPE, timeout=LIMIT_S, text=True,
            )  # fmt: skip
        finally:
            os.close(writer)

    @contextmanager
    def start(self, *args: str, pass_fds: tuple[int, ...] = (), **env: str) -> Iterator[Running]:
        """A command that goes on; it is killed at the end if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *args],
            cwd=self.folder, env=self._environ(env), start_new_session=True, pass_fds=pass_fds,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        running = Running(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache/uv")
        kept = {k: v for k, v in os.environ.items() if k == "PATH" or k.startswith(("UV_", "SSL_CERT_"))}
        kept |= {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        # Tests run side by side: the default port of the metrics is one test's only.
        own = {"UV_CACHE_DIR": cache, "HOME": str(self.folder), "TAILRACE_METRICS_PORT": "0"}
        return {k: v for k, v in {**kept, **own, **self.env, **more}.items() if v != DEFAULT}


class Running:
    """A command that runs; its output is read as it is waited for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.text = ""

    def wait_for(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Wait until the output from position ``after`` on matches; fails with the output when it ends."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.compile(pattern, re.MULTILINE).search(self.text, after)):
            more = self._read(deadline - time.monotonic())
            assert more, f"{pattern!r} never came; the output was:\n{self.text}"
        return found

    def stop(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send the signal; exit code, and the seconds it took. The rest of the output is read."""
        begin = time.monotonic()
        self.process.send_signal(number)
        return self.wait_end(), time.monotonic() - begin

    def wait_end(self) -> int:
        """Read the rest of the output; the exit code."""
        while self._read(LIMIT_S):
            pass
        return self.process.wait(LIMIT_S)

    def _read(self, timeout_s: float) -> bool:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, timeout_s)):
                return False
        data = os.read(self.process.stdout.fileno(), 65536)
        self.text += data.decode("utf-8", "replace")
        return bool(data)
