"""What the benchmarks need of the machine: children that end with us, their CPU time and memory, facts."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

from tailrace.cli.datapath import data_path

START_LIMIT_S = 20.0
END_LIMIT_S = 3.0


def raise_file_limit() -> int:
    """Thousands of connections need as many descriptors, here and in the children; how many there are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes have used so far: all threads, those that have ended too."""
    # A process's CPU clock, as clock_getcpuclockid(3) makes its number from the pid.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def memory_kib(pids: Sequence[int]) -> float:
    """Resident memory of these processes together, shared pages counted in each."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def family(pid: int) -> list[int]:
    """A process and everything that descends from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


class Child:
    """A process of ours, in a session of its own so that a Ctrl-C reaches it through us only."""

    def __init__(self, process: subprocess.Popen[str], words: IO[str], name: str) -> None:
        self.process = process
        self.pid = process.pid
        self._words = words
        self._name = name

    def line(self) -> str:
        """The next line it prints.

        Raises:
            SystemExit: it ended instead; its last words are in the message.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.failed("ended")
        return line.strip()

    def ask_to_end(self) -> None:
        """Close its stdin, which is what those of our programs that print a result at their end wait for."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until it is so, START_LIMIT_S at most."""
        until = time.monotonic() + START_LIMIT_S
        while not is_so():
            if self.process.poll() is not None or time.monotonic() > until:
                self.failed(f"did not {what}")
            time.sleep(0.01)

    def failed(self, what: str) -> NoReturn:
        """End the program with the child's last words."""
        self._words.seek(0)
        sys.exit(f"error: {self._name} {what}: {self._words.read()[-2000:].strip() or 'without a word'}")


@contextlib.contextmanager
def child(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> Iterator[Child]:
    """Run a command while the context is open; then it and everything it started is ended."""
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words,
            text=True, cwd=cwd, env=env, start_new_session=True,
        )  # fmt: skip
        with process:
            try:
                yield Child(process, words, Path(command[0]).name)
            finally:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        # Also when the first process is over: its children are in the same group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_LIMIT_S)


def python(module: str, *args: str, is_pure: bool = False) -> contextlib.AbstractContextManager[Child]:
    """A module of ours as a child; ``is_pure`` asks for the sources, as a clone runs them."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} if is_pure else None
    return child([sys.executable, "-m", module, *args], env=env)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago, for programs that cannot choose one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def accepts(address: str | tuple[str, int]) -> bool:
    """Whether somebody listens on a unix socket's path or on host and port."""
    kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(kind) as client:
        client.settimeout(1)
        return client.connect_ex(address) == 0


def find_nginx() -> str:
    """nginx's path; ends the program with the command that installs it."""
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        sys.exit("nginx is not installed; install it: sudo apt-get install -y nginx")
    return found


def facts() -> dict[str, str]:
    """What a reader must know of machine and build, and nothing that names the machine."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    version = subprocess.run([find_nginx(), "-v"], capture_output=True, text=True, check=True).stderr
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": model[1] if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": version.rpartition("/")[2].strip(),
        "data path": data_path(),
    }
