"""The boot contract in its smallest form: lifeline, import, socket, report. Handlers may break all of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import traceback


def main() -> None:
    boot = json.loads(sys.stdin.buffer.readline())
    lifeline = os.dup(0)
    threading.Thread(target=_die_with, args=(lifeline,), daemon=True).start()
    report_fd: int = boot["report_fd"]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.path.insert(0, boot["root"])
    sys.modules["boot"] = type(sys)("boot")
    sys.modules["boot"].__dict__.update(boot=boot, tell=lambda report: _tell(report_fd, report))
    try:
        import function.handler  # type: ignore[import-not-found]  # noqa: F401  # it is in the bundle
    except Exception as exc:
        trace = traceback.format_exc()
        _tell(report_fd, {"type": "failed", "error": repr(exc), "trace": trace, "hint": "mend it"})
        sys.exit(1)
    server = socket.socket(socket.AF_UNIX)
    server.bind(boot["socket"])
    server.listen()
    _tell(report_fd, {"type": "loaded", "import_s": 0.25})
    while True:
        client, _ = server.accept()
        threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with client:
        while client.recv(65536):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")


def _tell(report_fd: int, report: dict[str, object]) -> None:
    os.write(report_fd, json.dumps(report).encode() + b"\n")


def _die_with(lifeline: int) -> None:
    while os.read(lifeline, 100):
        pass
    os.killpg(0, signal.SIGKILL)
