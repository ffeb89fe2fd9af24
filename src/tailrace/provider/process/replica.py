"""One replica: a child process in a group of its own, its pipes, its socket and its two private folders."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from tailrace.errors import EnvironmentFailed, HandlerNotLoaded, InvalidDeployment
from tailrace.model import LogLine
from tailrace.names import FunctionName
from tailrace.provider.contract import Address, Exit, LogSink
from tailrace.provider.process.report import Failed, LineFeed, Loaded, Log, Retiring, parse_report
from tailrace.state import remove_tree

_LAST_WORDS_BYTES = 2048
# How long what was written last may take to arrive after the process is gone. It is there already unless
# a grandchild that left the group holds the pipe open.
_LAST_WORDS_S = 0.5
_DAY_S = 86_400.0
_QUOTED_LINES = 15
_QUOTED_CHARACTERS = 4000


class Boot(msgspec.Struct, omit_defaults=False):
    """What the runtime reads as one line of JSON from its stdin."""

    function: str
    instance: str
    socket: str
    kind: str
    root: str
    worker: str
    secrets: dict[str, str]
    folder: str
    report_fd: int = -1


@dataclass(frozen=True, slots=True)
class Launch:
    """All that starting a replica takes. ``folder`` is made for its home and temporary files, and removed."""

    name: FunctionName
    python: Path
    runtime: Path
    folder: Path
    env: Mapping[str, str]
    boot: Boot


class Replica(asyncio.SubprocessProtocol):
    """A replica from its start to its end. `spawn` makes one; nothing of it is left after `wait_exit`.

    While it lives the write end of its stdin stays open: its end tells the runtime that we are gone.
    """

    def __init__(self, launch: Launch, log: LogSink) -> None:
        self._launch = launch
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[int] = self._loop.create_future()
        self._verdict: asyncio.Future[Loaded | Failed] = self._loop.create_future()
        self._retiring: asyncio.Future[str] = self._loop.create_future()
        self._feeds: list[LineFeed] = []
        self._tail = ""
        self._was_garbage_told = False
        self._transport: asyncio.SubprocessTransport | None = None
        self._end: asyncio.Task[Exit] | None = None
        self.import_s = 0.0

    @classmethod
    async def spawn(cls, launch: Launch, log: LogSink) -> Replica:
        """Start the process; returns as soon as it runs. Cancelling leaves nothing behind.

        Raises:
            EnvironmentFailed: the interpreter cannot be started.
            InvalidDeployment: its environment variables are more than the system takes.
        """
        replica = cls(launch, log)
        replica._make_folders()
        try:
            await replica._start()
        except BaseException as exc:
            replica._kill()
            for feed in replica._feeds:
                feed.close()
            if replica._transport is not None:
                replica._transport.close()
            replica._clean()
            if isinstance(exc, OSError | ValueError):
                raise _start_error(launch, exc) from exc
            raise
        replica._end = asyncio.create_task(replica._live(), name=f"replica {launch.boot.instance}")
        return replica

    @property
    def id(self) -> str:
        return self._launch.boot.instance

    @property
    def address(self) -> Address:
        return Address(path=self._launch.boot.socket)

    @property
    def pid(self) -> int:
        assert self._transport is not None, "spawn makes replicas"
        return self._transport.get_pid()

    @property
    def is_ended(self) -> bool:
        """Whether it is gone, with its socket and folders."""
        return self._end is not None and self._end.done()

    async def wait_loaded(self, timeout_s: float) -> None:
        """Wait until it accepts connections.

        Raises:
            HandlerNotLoaded: it said it cannot, it ended before, or timeout_s seconds are over. Whether it
                still runs then is for the caller to mend: `stop` it.
        """
        assert self._end is not None, "spawn makes replicas"
        either: list[asyncio.Future[Any]] = [self._verdict, self._end]
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._verdict.done():
            report = self._verdict.result()
            if isinstance(report, Failed):
                raise _not_loaded(self._launch, report)
            self.import_s = min(max(0.0, report.import_s), _DAY_S)
            return
        short = self._launch.name.short
        if self._end.done():
            how = _describe(self._end.result())
            raise HandlerNotLoaded(f"replica of '{short}' {how} before its handler was loaded{self._quote()}")
        raise HandlerNotLoaded(
            f"handler of '{short}' was not loaded within {timeout_s:g} s{self._quote()}",
            hint="If its import takes that long, raise TAILRACE_START_TIMEOUT_S.",
        )

    async def wait_retiring(self) -> str:
        return await asyncio.shield(self._retiring)

    async def wait_exit(self) -> Exit:
        assert self._end is not None, "spawn makes replicas"
        return await asyncio.shield(self._end)

    async def stop(self, grace_s: float) -> Exit:
        assert self._end is not None, "spawn makes replicas"
        if grace_s > 0 and not self._gone.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            await asyncio.wait([self._end], timeout=grace_s)
        self._kill()
        return await self.wait_exit()

    async def _start(self) -> None:
        ends: list[int] = []
        try:
            for stream in ("stdout", "stderr", "report"):
                ends.append(await self._open_pipe(stream))
            stdout, stderr, report = ends
            transport, _ = await self._loop.subprocess_exec(
                # -B: bundles are read-only to everybody but root; it keeps root from writing byte code there.
                lambda: self, str(self._launch.python), "-B", str(self._launch.runtime),
                stdout=stdout, stderr=stderr, pass_fds=(report,), cwd=self._launch.boot.root,
                env=dict(self._launch.env), start_new_session=True,
            )  # fmt: skip
        finally:
            for end in ends:
                os.close(end)
        self._transport = transport
        stdin = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        boot = msgspec.structs.replace(self._launch.boot, report_fd=report)
        stdin.write(msgspec.json.encode(boot) + b"\n")

    async def _open_pipe(self, stream: str) -> int:
        """A pipe whose lines we take; the other end's descriptor, which is the caller's to close."""
        if stream == "report":
            feed = LineFeed(self._take_report)
        else:
            feed = LineFeed(lambda line: self._write_log(line.decode("utf-8", "replace"), stream))
        read_end, write_end = os.pipe()
        reading = os.fdopen(read_end, "rb", buffering=0)
        # Not cancelled in the middle, which takes one turn of the loop: the file would have no owner.
        connecting = asyncio.ensure_future(self._loop.connect_read_pipe(lambda: feed, reading))
        try:
            await asyncio.shield(connecting)
        except BaseException:
            await asyncio.wait([connecting])
            feed.close()
            os.close(write_end)
            raise
        self._feeds.append(feed)
        return write_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def process_exited(self) -> None:
        assert self._transport is not None, "spawn sets it"
        # Children of the handler that are left die with it. The group cannot be another's yet: process
        # ids are given out in turn, and this runs right after the leader was reaped.
        self._kill_group()
        code = self._transport.get_returncode()
        if not self._gone.done():
            self._gone.set_result(-1 if code is None else code)

    async def _live(self) -> Exit:
        code = await self._gone
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                for feed in self._feeds:
                    await feed.ended.wait()
        for feed in self._feeds:
            feed.close()
        if self._transport is not None:
            self._transport.close()
        if not self._retiring.done():
            self._retiring.set_result("")
        await asyncio.to_thread(self._clean)
        return Exit(code, self._last_words())

    def _make_folders(self) -> None:
        for name in ("home", "tmp"):
            (self._launch.folder / name).mkdir(mode=0o700, parents=True)
        Path(self._launch.boot.socket).unlink(missing_ok=True)

    def _clean(self) -> None:
        Path(self._launch.boot.socket).unlink(missing_ok=True)
        remove_tree(self._launch.folder)

    def _kill(self) -> None:
        if self._transport is not None and not self._gone.done():
            self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            os.killpg(self.pid, signal.SIGKILL)

    def _take_report(self, line: bytes) -> None:
        report = parse_report(line)
        if isinstance(report, Log):
            self._write_log(report.text, report.stream, report.call)
        elif isinstance(report, Retiring):
            if not self._retiring.done():
                self._retiring.set_result(report.reason[:1000] or "it did not say why")
        elif report is not None and not self._verdict.done():
            self._verdict.set_result(report)
        elif report is None and not self._was_garbage_told:
            self._was_garbage_told = True
            self._write_log("something wrote to the replica's report pipe; it is ignored\n", "stderr")

    def _write_log(self, text: str, stream: str, call_id: str = "") -> None:
        self._tail = (self._tail + text)[-_LAST_WORDS_BYTES:]
        self._log(LogLine(self._launch.name, self.id, time.time_ns(), text, call_id, stream))

    def _last_words(self) -> str:
        cut = self._tail.encode("utf-8", "replace")[-_LAST_WORDS_BYTES:]
        return cut.decode("utf-8", "ignore").strip("\n")

    def _quote(self) -> str:
        words = self._last_words()
        return f"; its last words:\n{words}" if words else ""


def _describe(end: Exit) -> str:
    if end.code >= 0:
        return f"ended with exit code {end.code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-end.code).name}"
    return f"was killed by signal {-end.code}"


def _not_loaded(launch: Launch, report: Failed) -> HandlerNotLoaded:
    # Files of the bundle are told as their author knows them: function/handler.py.
    trace = report.trace.replace(f"{launch.boot.root}/", "").strip("\n")
    trace = "\n".join(trace.splitlines()[-_QUOTED_LINES:])[-_QUOTED_CHARACTERS:]
    error = report.error.strip()[:1000] or "no reason was given"
    text = f"handler of '{launch.name.short}' could not be loaded: {error}"
    if trace:
        text += f"\n{trace}"
    return HandlerNotLoaded(text, hint=report.hint.strip()[:500] or None)


def _start_error(launch: Launch, exc: OSError | ValueError) -> EnvironmentFailed | InvalidDeployment:

    if isinstance(exc, ValueError) or exc.errno == errno.E2BIG:
        return InvalidDeployment(
            f"replica of '{launch.name.short}' cannot be started with its envVars: {exc}"
        )
    return EnvironmentFailed(f"replica of '{launch.name.short}' cannot be started: {exc}")
