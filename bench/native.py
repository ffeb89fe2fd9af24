"""The C programs of bench/native: built, run, and what they saw as values."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.machine import Child, child

SOURCES = Path(__file__).parent / "native"
STRICT = (
    *("-std=c11", "-D_GNU_SOURCE", "-O2", "-g"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"),
)
_PARTS = {"source": ("source.c", "ground.c"), "sink": ("sink.c", "reply.c", "histogram.c", "ground.c")}


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the built programs are."""

    source: Path
    sink: Path


def find_compiler() -> str | None:
    """A C compiler's path, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder: Path, *, flags: Sequence[str] = ()) -> Programs:
    """Compile both programs into a folder.

    Raises:
        SystemExit: there is no compiler, or it refused; its words are in the message.
    """
    compiler = find_compiler()
    if compiler is None:
        sys.exit("error: no C compiler; install one: sudo apt-get install -y gcc libc6-dev")
    for name, parts in _PARTS.items():
        command = [compiler, *STRICT, *flags, "-o", str(folder / name), *(str(SOURCES / p) for p in parts)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: {compiler} could not build bench/native:\n{done.stderr}")
    return Programs(folder / "source", folder / "sink")


class Quantiles(msgspec.Struct, frozen=True):
    """Milliseconds, right to 1.6 %; the largest exactly. 0 of nothing."""

    p50: float
    p99: float
    most: float


class Failed(msgspec.Struct, frozen=True):
    """Answers that were not as they should be, each under one reason.

    Attributes:
        events: A stream that ended in order with too few, too many or disordered events.
        cut: The connection ended within an answer.
        time: Not answered, or not even begun, when the time was over.
    """

    refused: int
    status: int
    framing: int
    events: int
    cut: int
    time: int

    @property
    def total(self) -> int:
        return sum(msgspec.structs.astuple(self))

    def __str__(self) -> str:
        return ", ".join(f"{name} {n}" for name, n in msgspec.structs.asdict(self).items() if n)


class Seen(msgspec.Struct, frozen=True):
    """What a sink saw. ``latency_ms`` is of an event from its stamp, or of a small request."""

    completed: int
    events: int
    bytes: int
    late_events: int
    reconnected: int
    failed: Failed
    latency_ms: Quantiles
    first_event_ms: Quantiles
    seconds: float
    cpu_s: float


class Sent(msgspec.Struct, frozen=True):
    """What a source saw. ``behind_most_ms`` is how late it was itself with an event, at worst."""

    requests: int
    streams: int
    events: int
    bad_requests: int
    abandoned: int
    behind_most_ms: float
    cpu_s: float


class Source:
    """A running source. ``address`` is how a sink reaches it, ``path`` its unix socket."""

    def __init__(self, process: Child, path: Path) -> None:
        self.path = path
        self.address = f"unix:{path}"
        self.pid = process.pid
        self._process = process

    def end(self) -> Sent:
        """Stop it; what it saw."""
        self._process.ask_to_end()
        return msgspec.json.decode(self._process.line(), type=Sent)


@contextlib.contextmanager
def open_source(programs: Programs, path: Path) -> Iterator[Source]:
    """A source on a unix socket that everybody may use: nginx's worker is another user."""
    with child([programs.source, f"unix:{path}"]) as process:
        process.line()
        path.chmod(0o777)
        yield Source(process, path)


@dataclass(frozen=True, slots=True)
class Paced:
    """Streams at once: how many, of how many events, with which gap (0: full speed), begun over how long.

    ``limit_s`` is when streams that are not complete are given up.
    """

    streams: int
    events: int
    gap_ms: int
    ramp_s: float = 0.0
    size: int = 180
    limit_s: float = 60.0

    @property
    def query(self) -> str:
        return f"stream?n={self.events}&gap_ms={self.gap_ms}&size={self.size}"

    def arguments(self, address: str, prefix: str) -> list[str]:
        """Of a sink that reads them from this address below this path."""
        return [
            *("streams", "--to", address, "--path", prefix + self.query),
            *("--connections", str(self.streams), "--events", str(self.events)),
            *("--ramp", str(self.ramp_s), "--limit", str(self.limit_s)),
        ]


def sink(programs: Programs, arguments: Sequence[str]) -> contextlib.AbstractContextManager[Child]:
    """A running sink; its last line is a `Seen` (`read_seen`)."""
    return child([programs.sink, *arguments])


def read_seen(process: Child) -> Seen:
    """What a sink saw, once it has."""
    return msgspec.json.decode(process.line(), type=Seen)
