"""The boot config: the one line that whoever starts a replica writes to its stdin."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

Kind = Literal["flask", "http", "stream", "asgi", "watchdog"]
Worker = Literal["greenlets", "threads"]

# Paths and names only: a line beyond this is not from the provider.
MAX_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Boot:
    """How one replica is to run.

    Args:
        function: Full name, ``name.namespace``.
        instance: The replica's id.
        socket: Path to listen on; at most 107 bytes on Linux, 103 on macOS.
        root: The folder that holds ``function/``.
        secrets: File of each secret, by the secret's name.
        report_fd: Inherited write end of the pipe that carries reports.
        folder: The replica's own, gone with it; empty: the one that holds HOME.
        line: The config as it came, for a second start of the interpreter.
    """

    function: str
    instance: str
    socket: str
    kind: Kind
    root: str
    worker: Worker
    secrets: Mapping[str, str]
    report_fd: int
    line: str
    folder: str = ""


def parse_boot(line: bytes) -> Boot:
    """The boot config of a line of JSON.

    Raises:
        ValueError: it is not such a config; the text names what is wrong.
    """
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError("the boot config is no JSON object")
    texts = {key: raw.get(key) for key in ("function", "instance", "socket", "kind", "root", "worker")}
    wrong = [key for key, value in texts.items() if not isinstance(value, str) or not value]
    if wrong:
        raise ValueError(f"the boot config lacks {', '.join(wrong)}")
    if raw["kind"] not in get_args(Kind):
        raise ValueError(f"kind {raw['kind']!r} is not one of {', '.join(get_args(Kind))}")
    if raw["worker"] not in ("greenlets", "threads"):
        raise ValueError(f"worker {raw['worker']!r} is not one of greenlets, threads")
    secrets, report_fd = raw.get("secrets", {}), raw.get("report_fd")
    if not isinstance(secrets, dict) or not all(isinstance(path, str) for path in secrets.values()):
        raise ValueError("secrets is not a map of names to paths")
    if type(report_fd) is not int or report_fd < 0:
        raise ValueError(f"report_fd {report_fd!r} is no file descriptor")
    if not isinstance(folder := raw.get("folder", ""), str):
        raise ValueError("folder is not a path")
    return Boot(
        **cast("dict[str, str]", texts),  # type: ignore[arg-type]  # kind and worker were checked above
        secrets=secrets,
        report_fd=report_fd,
        line=line.decode(),
        folder=folder,
    )


def read_line(fd: int) -> bytes:
    """The first line that comes from fd, without reading past what was written with it.

    Raises:
        ValueError: the other end closed first, or the line is over MAX_LINE_BYTES.
    """
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(fd, 65536)
        line += piece
        if not piece or len(line) > MAX_LINE_BYTES:
            raise ValueError("no boot config came on stdin: start replicas with `tailrace up`")
    return line.rstrip(b"\n")
