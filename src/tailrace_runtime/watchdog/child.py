"""Mode ``http``: the one process that serves HTTP itself, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE

from tailrace_runtime.watchdog.listeners import listeners_of
from tailrace_runtime.watchdog.tree import kill_tree

READ_BYTES = 64 * 1024
LOOPBACK = "127.0.0.1"
# How often it is looked whether it listens yet.
LOOK_S = 0.02
# How long it may take to end after SIGTERM.
END_S = 2.0
_HOOKS = Path(__file__).parent / "hooks"

Log = Callable[[str, str], None]


class NotListening(Exception):
    """The process ended before it listened, or listens where it must not."""


class Child:
    """The process, and where it listens.

    Args:
        command: As it is executed; the program is looked up in PATH of env.
        wanted_port: Where its author has it listen.
        is_private: Give it a port of its own on loopback, so that several run side by side.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        wanted_port: int,
        log: Log,
        *,
        is_private: bool,
        line_limit: int = 65536,
    ) -> None:
        self._command = command
        self._wanted_port = wanted_port
        self._log = log
        self._is_private = is_private
        self._line_limit = line_limit
        self._reading: list[asyncio.Future[None]] = []
        self._process: asyncio.subprocess.Process | None = None
        self.port = wanted_port

    async def start(self, env: Mapping[str, str]) -> None:
        """Start it and wait until it listens; who waits says for how long.

        Raises:
            NotListening: it ended, or listens for other machines.
            OSError: it cannot be executed.
        """
        env = dict(env)
        if self._is_private:
            self.port = _free_port()
            env |= self._private_env(env)
        program, *arguments = self._command
        process = self._process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=env
        )
        assert process.stdout is not None
        assert process.stderr is not None
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            self._reading.append(asyncio.ensure_future(self._read_lines(name, stream)))
        await self._wait_listening(process)

    async def wait_exit(self) -> int:
        """Wait until it is gone, and all it wrote is told; its exit code."""
        assert self._process is not None, "start comes first"
        code = await self._process.wait()
        await asyncio.wait(self._reading, timeout=0.5)
        return code

    async def stop(self) -> None:
        """Ask it to end, kill what is left of it, and return once it is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._process.wait()
        kill_tree(self._process.pid)
        await self._process.wait()

    def _private_env(self, env: Mapping[str, str]) -> dict[str, str]:
        """What leads it to a port of its own: hooks for Python and Node, and the usual variables for all."""
        python = [str(_HOOKS / "python"), *filter(None, [env.get("PYTHONPATH")])]
        node = [*filter(None, [env.get("NODE_OPTIONS")]), f"--require={_HOOKS / 'node.cjs'}"]
        port = str(self.port)
        return {
            "PORT": port,
            "port": port,
            "HOST": LOOPBACK,
            "upstream_url": f"http://{LOOPBACK}:{port}",
            "TAILRACE_PORTS": f"5000,8080,{self._wanted_port}:{port}",
            "PYTHONPATH": os.pathsep.join(python),
            "NODE_OPTIONS": " ".join(node),
        }

    async def _wait_listening(self, process: asyncio.subprocess.Process) -> None:
        while True:
            if process.returncode is not None:
                code = await self.wait_exit()
                command = " ".join(self._command)[:200]
                raise NotListening(f"'{command}' ended with exit code {code} before it listened")
            found = listeners_of(process.pid) if self._is_private else None
            if found:
                self._check_listeners(found)
                own = next((port for host, port in found if port == self.port), None)
                self.port = own or found[0][1]  # it did not ask for its port, and had one that was free
            if found != [] and await self._answers():
                return
            await asyncio.sleep(LOOK_S)  # a process tells nobody that it listens

    def _check_listeners(self, found: list[tuple[str, int]]) -> None:
        open_ones = [f"{host}:{port}" for host, port in found if host != LOOPBACK and host != "::1"]
        if open_ones:
            raise NotListening(
                f"the function's process listens on {', '.join(open_ones)}, where other machines reach it; "
                "have it listen on 127.0.0.1, which HOST says, and on the port that PORT says"
            )

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        writer.transport.abort()
        return True

    async def _read_lines(self, name: str, stream: asyncio.StreamReader) -> None:
        """Hand on what it writes in lines; one that is too long in pieces."""
        rest = b""
        while data := await stream.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._log(name, line.decode("utf-8", "replace") + "\n")
            if len(rest) > self._line_limit >= 0:
                self._log(name, rest.decode("utf-8", "replace"))
                rest = b""
        if rest:
            self._log(name, rest.decode("utf-8", "replace"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
