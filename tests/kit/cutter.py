"""A TCP proxy that cuts, stalls and delays connections, and changes nothing else: no byte, no order."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one connection.

    Attributes:
        after_bytes: Of the answer that are let through before it happens; 0: none, the request is.
        how: ``reset``: both ends are reset; ``close``: closed as at an end; ``stall``: nothing comes more.
        delay_s: Each piece of the answer is that late.
    """

    after_bytes: int
    how: Literal["reset", "close", "stall"] = "reset"
    delay_s: float = 0.0


@dataclass
class Cutter:
    """Where clients connect. Connections have the next of ``faults`` each; when there are no more, none."""

    port: int
    faults: deque[Fault] = field(default_factory=deque)
    # Where the next connections go, in turn.
    targets: list[int] = field(default_factory=list)
    connections: int = 0
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """Reset every connection that is open now."""
        with self._lock:
            sockets, self._open = self._open, set()
        for sock in sockets:
            _drop(sock, is_reset=True)

    def serve(self, client: socket.socket) -> None:
        """Carry one connection until it ends."""
        with self._lock:
            target = self.targets[self.connections % len(self.targets)]
            self.connections += 1
            fault = self.faults.popleft() if self.faults else None
        try:
            upstream = socket.create_connection(("127.0.0.1", target), timeout=5)
        except OSError:
            _drop(client, is_reset=True)
            return
        upstream.settimeout(None)
        with self._lock:
            self._open |= {client, upstream}
        threading.Thread(target=_pump, args=(client, upstream, None), daemon=True).start()
        left = _pump(upstream, client, fault)
        with self._lock:
            self._open -= {client, upstream}
        if left == "stall":
            with self._lock:
                self._open |= {client, upstream}
            return
        for sock in (client, upstream):
            _drop(sock, is_reset=left == "reset")


def _pump(source: socket.socket, sink: socket.socket, fault: Fault | None) -> str:
    passed = 0
    try:
        while True:
            want = 65536 if fault is None else min(65536, fault.after_bytes - passed)
            if fault is not None and want <= 0:
                if not passed:
                    source.recv(1, socket.MSG_PEEK)  # the request was taken: an answer has begun
                return fault.how
            data = source.recv(want)
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return "close"
            if fault is not None and fault.delay_s:
                time.sleep(fault.delay_s)
            sink.sendall(data)
            passed += len(data)
    except OSError:
        return "reset"


def _drop(sock: socket.socket, *, is_reset: bool) -> None:
    with contextlib.suppress(OSError):
        if is_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextlib.contextmanager
def cutter(*targets: int) -> Iterator[Cutter]:
    """A proxy in front of these ports of loopback; at the end its connections are gone."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        made = Cutter(listener.getsockname()[1], targets=list(targets))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=made.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, name="cutter")
        thread.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            made.cut_all()
