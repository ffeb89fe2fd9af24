"""Which gateways run, as they are heard over NATS. A gateway's name is its node's and its start's."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

# A gateway says that it is there so often, and is taken for dead when it was silent for so long.
BEAT_S = 1.0
LEASE_S = 5.0


def open_node(path: Path) -> str:
    """The node's name that a file keeps, made at the first time: it tells a restart from a new gateway."""
    try:
        name = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        name = ""
    if not (len(name) == 16 and name.isalnum()):
        name = secrets.token_hex(8)
        path.write_text(name, encoding="ascii")
        os.chmod(path, 0o600)  # noqa: PTH101  # the folder is 0700 already
    return name


def gateway_name(node: str) -> str:
    """The name of one start of a gateway."""
    return f"{node}-{secrets.token_hex(4)}"


class Peers:
    """Who was heard when. ``now`` is monotonic seconds."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self._since = self._own = now
        self._heard: dict[str, float] = {}

    def hear(self, name: str, now: float) -> bool:
        """A gateway has said that it runs. True: it is this one, and others may have taken it for dead."""
        if name != self.name:
            self._heard[name] = now
            return False
        before, self._own = self._own, now
        return now - before > LEASE_S - BEAT_S

    def hear_leaving(self, name: str) -> None:
        """A gateway has said that it ends."""
        self._heard[name] = -LEASE_S

    def is_alive(self, name: str, now: float) -> bool:
        """Whether a gateway runs. Who has just begun to listen takes those it has not heard for alive."""
        if name == self.name:
            return True
        if name.partition("-")[0] == self.name.partition("-")[0]:
            return False  # an earlier start with the same state directory, which has one owner at a time
        heard = self._heard.get(name, self._since)
        return now - heard < LEASE_S

    def fell_silent(self, now: float) -> bool:
        """Whether one that was heard is dead now; told once of each."""
        silent = [name for name, heard in self._heard.items() if now - heard >= LEASE_S]
        for name in silent:
            del self._heard[name]
        return bool(silent)
