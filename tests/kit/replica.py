"""A runtime in a process of its own, booted as the process provider boots it, from a handler's source."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h11

import tailrace_runtime

Report = dict[str, object]
LIMIT_S = 20.0


@functools.cache
def runtime_folder() -> str:
    """A folder as the provider makes it: the package and a ``__main__.py``; gone at the end of the tests."""
    folder = tempfile.mkdtemp(prefix="tr-rt-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = Path(tailrace_runtime.__file__).parent
    shutil.copytree(source, f"{folder}/tailrace_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    Path(folder, "__main__.py").write_text("from tailrace_runtime.main import main\n\nmain()\n")
    return folder


@dataclass(frozen=True)
class Answer:
    """A whole reply. ``is_whole`` is False when the connection was cut before the body's end."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def text(self) -> str:
        return self.body.decode()


class Talk:
    """One connection to a replica on which requests are made one after the other."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self._h11 = h11.Connection(h11.CLIENT)

    def send(
        self,
        method: str = "POST",
        target: str = "/",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole request with a sized body."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        fields = {"Host": "fn", "Content-Length": str(len(body)), **(headers or {})}
        out = self._h11.send(h11.Request(method=method, target=target, headers=list(fields.items())))
        if body:
            out = (out or b"") + (self._h11.send(h11.Data(data=body)) or b"")
        self._h11.send(h11.EndOfMessage())
        self.socket.sendall(out or b"")

    def send_raw(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a request whose body is framed by the caller, as the headers say."""
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: fn",
            *(f"{k}: {v}" for k, v in headers.items()),
            "",
            "",
        ]
        self.socket.sendall("\r\n".join(lines).encode() + body)
        self._h11.send(h11.Request(method=method, target=target, headers=[("Host", "fn")]))
        self._h11.send(h11.EndOfMessage())

    def read_head(self) -> h11.Response:
        """The reply's head, as soon as it is there."""
        event = self._next()
        assert isinstance(event, h11.Response)
        return event

    def read_data(self) -> bytes | None:
        """The next piece of the body; None at its end.

        Raises:
            h11.RemoteProtocolError: the connection was cut before the end.
        """
        event = self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    def read_answer(self) -> Answer:
        """The whole reply."""
        head, body, is_whole = self.read_head(), b"", True
        try:
            while (data := self.read_data()) is not None:
                body += data
        except (h11.RemoteProtocolError, ConnectionResetError):
            is_whole = False
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Answer(head.status_code, headers, body, is_whole)

    def is_closed(self) -> bool:
        """Whether the replica closes the connection; waits until it does or LIMIT_S are over."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(self.socket.recv(65536))
        return event


class Replica:
    """A running runtime: its socket, everything it reported, and how to end it."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int, reports: int, path: str) -> None:
        self.process = process
        self.path = path
        self.reports: list[Report] = []
        self._lifeline = lifeline
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(reports,), daemon=True)
        self._reader.start()

    def _read(self, fd: int) -> None:
        with open(fd, "rb") as lines:
            for line in lines:
                with self._changed:
                    self.reports.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self.reports.append({"type": "end"})
            self._changed.notify_all()

    def wait_report(self, wanted: Callable[[Report], bool]) -> Report:
        """The first report that is wanted, also of those that came before."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self.reports)), LIMIT_S), self.reports
            return next(filter(wanted, self.reports))

    def wait_first(self) -> Report:
        """The report that tells whether the handler was loaded."""
        return self.wait_report(lambda report: report["type"] in ("loaded", "failed", "end"))

    def wait_log(self, part: str) -> Report:
        """The first log report whose text has this part."""
        return self.wait_report(lambda report: report["type"] == "log" and part in str(report["text"]))

    def logs(self, stream: str = "") -> str:
        """All text that was logged so far."""
        with self._changed:
            logs = [report for report in self.reports if report["type"] == "log"]
        return "".join(str(log["text"]) for log in logs if stream in ("", log["stream"]))

    def talk(self) -> Talk:
        """A new connection."""
        return Talk(self.path)

    def ask(
        self,
        method: str = "POST",
        target: str = "/",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The whole reply to one request on a connection of its own."""
        with self.talk() as talk:
            talk.send(method, target, body, headers)
            return talk.read_answer()

    def refuses(self) -> bool:
        """Whether new connections are refused."""
        try:
            self.talk().close()
        except ConnectionRefusedError:
            return True
        return False

    def cut_lifeline(self) -> None:
        """What the death of the gateway does."""
        os.close(self._lifeline)
        self._lifeline = -1

    def terminate(self) -> None:
        """What a stop of the provider begins with."""
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self) -> int:
        """The exit code, once it is gone."""
        return self.process.wait(LIMIT_S)

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._lifeline >= 0:
            self.cut_lifeline()
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        if kind is not None:
            print(self.logs(), file=sys.stderr)


@contextmanager
def boot_replica(
    source: str,
    *,
    kind: str = "stream",
    worker: str = "greenlets",
    files: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Replica]:
    """Boot a handler's source; yields before it is loaded. Kills the whole group at the end.

    Args:
        files: Further files of the function's folder, by name.
        secrets: Values of its secrets, by name.
        env: Beside the few variables that the provider gives.
    """
    with tempfile.TemporaryDirectory(prefix="tr-") as folder:
        root = Path(folder, "root")
        (root / "function").mkdir(parents=True)
        for name, text in {"handler.py": source, **(files or {})}.items():
            (root / "function" / name).write_text(text)
        paths = {}
        for name, value in (secrets or {}).items():
            paths[name] = f"{folder}/{name}.secret"
            Path(paths[name]).write_text(value)
        config: dict[str, object] = {"kind": kind, "worker": worker, "root": str(root), "secrets": paths}
        with _start(config, folder, env or {}) as replica:
            yield replica


@contextmanager
def loaded_replica(
    source: str,
    *,
    kind: str = "stream",
    worker: str = "greenlets",
    secrets: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Replica]:
    """As `boot_replica`, but yields once the handler is loaded and connections are accepted."""
    with boot_replica(source, kind=kind, worker=worker, secrets=secrets, env=env) as replica:
        first = replica.wait_first()
        assert first["type"] == "loaded", first
        yield replica


def _start(config: dict[str, object], folder: str, env: Mapping[str, str]) -> Replica:
    stdin, lifeline = os.pipe()
    reports, report_fd = os.pipe()
    path = f"{folder}/s"
    config |= {"function": "fn.openfaas-fn", "instance": "r-1", "socket": path, "report_fd": report_fd}
    process = subprocess.Popen(
        [sys.executable, runtime_folder()],
        stdin=stdin,
        cwd=str(config["root"]),
        env={"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", **env},
        pass_fds=(report_fd,),
        start_new_session=True,
    )
    os.close(stdin)
    os.close(report_fd)
    os.write(lifeline, json.dumps(config).encode() + b"\n")
    return Replica(process, lifeline, reports, path)


def wait_until(is_so: Callable[[], bool], limit_s: float) -> float:
    """Seconds until it is so, asked every millisecond: for what another process does unannounced.

    Raises:
        AssertionError: limit_s were over first.
    """
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < limit_s, f"not within {limit_s} s"
        time.sleep(0.001)
    return time.monotonic() - started
