"""What processes there are, as `ps` tells it."""

from __future__ import annotations

import subprocess


def ps(*args: str) -> str:
    """What `ps` prints, lines as long as they are."""
    return subprocess.run(["ps", "-ww", *args], capture_output=True, text=True, timeout=10).stdout


def is_gone(pid: int) -> bool:
    """Whether a process ended; who adopted it may not have noticed yet."""
    return ps("-o", "stat=", "-p", str(pid)).strip()[:1] in ("", "Z")
