"""A WebSocket client of a replica: the real one, and one that can misbehave."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import TracebackType

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side
from websockets.sync.client import ClientConnection, unix_connect

from tests.kit.replica import LIMIT_S, Replica

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
# What RFC 6455 (1.3) gives for it.
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = {
    "Host": "fn",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def connect(
    replica: Replica,
    target: str = "/",
    *,
    subprotocols: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> ClientConnection:
    """An open socket of the websockets package. Raises InvalidStatus: it was refused."""
    return unix_connect(
        replica.path,
        f"ws://fn{target}",
        subprotocols=subprotocols,
        additional_headers=dict(headers or {}),
        open_timeout=LIMIT_S,
        close_timeout=LIMIT_S,
    )


class RawSocket:
    """A connection on which the handshake was sent, and every byte after it is the test's."""

    def __init__(
        self, replica: Replica, target: str = "/", *, headers: Mapping[str, str | None] | None = None
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(replica.path)
        self._protocol = Protocol(Side.CLIENT, max_size=None)
        self._events: list[Frame] = []
        fields = {**HANDSHAKE, **(headers or {})}
        lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        self.socket.sendall("\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode())

    def read_head(self) -> str:
        """The answer's head; what comes behind it is kept for `read_frame`."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(65536)
            assert piece, data
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        if rest:
            self._take(rest)
        return head.decode()

    def send_frame(self, opcode: Opcode, data: bytes, *, fin: bool = True, is_masked: bool = True) -> None:
        """Send one frame, legal or not."""
        self.socket.sendall(Frame(opcode, data, fin).serialize(mask=is_masked))

    def read_frame(self) -> Frame | None:
        """The next frame; None when the connection ended."""
        while not self._events:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return None
            self._take(piece)
        return self._events.pop(0)

    def read_close(self) -> int:
        """The code of the close frame that comes next."""
        frame = self.read_frame()
        assert frame is not None
        assert frame.opcode is Opcode.CLOSE
        return int.from_bytes(frame.data[:2], "big")

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close()

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._events += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
