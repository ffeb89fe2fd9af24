"""The demo: start the gateway with a function and a model, ask, show the answer as it comes, stop.

Whatever happens (an error, Ctrl-C, a hang-up), the gateway is stopped before this ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".tailrace" / "demo"
LOG = ROOT / ".tailrace" / "demo.log"
# Within the clone, like all that the scripts fetch: removing the folder removes it.
MODEL = ROOT / ".tailrace" / "model"
TAILRACE = str(Path(sys.executable).with_name("tailrace"))
FUNCTION = "stream"
STACK = "examples/stream/stack.yaml"

# A first start installs the function's packages; ten minutes are a slow line's.
READY_DEADLINE_S = 600.0
# How long one status request may wait at the gateway for the function to become ready.
STATUS_WAIT_S = 20
# What the gateway is given to end by itself; it needs less than a second.
STOP_GRACE_S = 5.0
READ_BYTES = 65536
LOG_LINES = 30

# Name and data.
Event = tuple[str, str]

# Loopback is behind no proxy, whatever the environment says.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoFailed(Exception):
    """Why the demo cannot go on, in one sentence or two."""


def main() -> None:
    options = _options()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    os.chdir(ROOT)
    STATE.mkdir(parents=True, exist_ok=True)
    os.environ["TAILRACE_STATE_DIR"] = str(STATE)
    os.environ.setdefault("TAILRACE_MODEL_DIR", str(MODEL))
    try:
        _run(options.llm, options.question)
    except DemoFailed as failure:
        print(f"\nerror: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    llm = os.environ.get("TAILRACE_DEMO_LLM", "local")
    parser.add_argument("--llm", choices=("local", "mock"), default=llm, help="a real small model, or a fake")
    parser.add_argument("--question", default="What are some calorie dense foods?")
    return parser.parse_args()


def _leave(signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


def _say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def _run(llm: str, question: str) -> None:
    _have_model(llm)
    port = _free_port(8080)
    with _gateway(llm, port) as gateway:
        _wait_ready(port, gateway)
        _ask(port, question)
        _say("stopping everything")
    _say("done. Your own function: .venv/bin/tailrace new, then .venv/bin/tailrace up")


def _have_model(llm: str) -> None:
    if llm == "mock":
        _say("NOT A REAL MODEL: a mock answers with made-up text")
        return
    _say("a real language model, fetched the first time (127 MB): tailrace llm install")
    if subprocess.run([TAILRACE, "llm", "install"], stdout=subprocess.DEVNULL, check=False).returncode:
        raise DemoFailed(
            "the local model cannot be had here, see above.\n"
            "hint:  with a fake that answers in its place: scripts/demo --llm mock"
        )


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As the gateway binds: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                probe.listen()
            except OSError:
                _say(f"port {port} is taken: using a free one")
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("there is no free port on 127.0.0.1")


@contextmanager
def _gateway(llm: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`tailrace up` as a child that logs to LOG: stopped on every way out, its log shown on a bad one."""
    command = [TAILRACE, "up", "-f", STACK, "--llm", llm, "--port", str(port)]
    _say(" ".join(["tailrace", *command[1:]]))
    with LOG.open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield child
    except DemoFailed:
        _stop(child)
        _show_log()
        raise
    finally:
        _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _show_log() -> None:
    lines = LOG.read_text(errors="replace").splitlines()[-LOG_LINES:]
    print(f"\nThe last lines of {LOG.relative_to(ROOT)}:", *lines, sep="\n", file=sys.stderr)


def _wait_ready(port: int, gateway: subprocess.Popen[bytes]) -> None:
    _say("waiting until the function is ready (its packages are installed the first time)")
    url = f"http://127.0.0.1:{port}/system/function/{FUNCTION}?wait={STATUS_WAIT_S}"
    until = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < until:
        if gateway.poll() is not None:
            raise DemoFailed("tailrace up ended before the function was ready")
        status = _status(url)
        if status is None:
            time.sleep(0.05)  # not listening yet: there is nothing to wait on but the next try
        elif status.get("availableReplicas"):
            return
        elif error := _failure(status):
            raise DemoFailed(f"function '{FUNCTION}' did not start: {error}")
    raise DemoFailed(f"function '{FUNCTION}' was not ready after {READY_DEADLINE_S:g} s")


def _status(url: str) -> dict[str, object] | None:
    """The function's status, or None while there is no gateway or no such function yet."""
    try:
        with OPENER.open(url, timeout=STATUS_WAIT_S + 10) as reply:
            return dict(json.load(reply))
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise DemoFailed(f"the gateway answers {error.code} at {url}") from None
    except OSError:
        pass
    return None


def _failure(status: dict[str, object]) -> str:
    """Why the function's first start failed; empty while it has not."""
    details = status.get("tailrace")
    assert isinstance(details, dict), "the gateway tells its function's state"
    return str(details["lastError"]) if details.get("settled") and details.get("lastError") else ""


def _ask(port: int, question: str) -> None:
    gateway = f"http://127.0.0.1:{port}"
    url = f"{gateway}/function/{FUNCTION}"
    if curl := shutil.which("curl"):
        print(f"\n$ curl -N {url} -d '{question}'\n", flush=True)
        # 'Accept:' takes away curl's own Accept header: the response alone decides that this streams.
        _watch(_of_sse, [curl, "-sSN", "--noproxy", "*", "-H", "Accept:", "-d", question, url])
    else:
        print(f"\n$ tailrace invoke {FUNCTION} -d '{question}'\n", flush=True)
        _watch(_of_json, [TAILRACE, "invoke", FUNCTION, "--json", "--gateway", gateway, "-d", question])


def _watch(read: Callable[[int], Iterator[Event]], command: list[str]) -> None:
    """Run a command that prints events; show their words as they come, and how fast they came."""
    started = time.monotonic()
    arrivals: list[float] = []
    failure = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for name, data in read(child.stdout.fileno()):
            if name != "message":
                failure = data if name in ("error", "unfinished") else failure
            elif data:
                arrivals.append(time.monotonic())
                print(data, end="", flush=True)
    print("\n")
    if child.returncode or failure or len(arrivals) < 2:
        raise DemoFailed(f"the answer did not come whole (exit code {child.returncode}). {failure}")
    first, last = arrivals[0], arrivals[-1]
    print(
        f"first token after {first - started:.2f} s, then {(len(arrivals) - 1) / (last - first):.0f} tokens/s"
    )
    print(f"({len(arrivals)} tokens in {last - started:.2f} s, each shown when it came)", flush=True)


def _of_json(fd: int) -> Iterator[Event]:
    """Events as `tailrace invoke --json` prints them, one object a line."""
    with open(fd, "rb", closefd=False) as lines:
        for line in lines:
            event = json.loads(line)
            yield event.get("event", "message"), event["data"]


def _of_sse(fd: int) -> Iterator[Event]:
    """Events as they are on the wire; what is no complete event is 'unfinished'."""
    rest = b""
    while piece := os.read(fd, READ_BYTES):
        *frames, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for frame in frames:
            yield _parse(frame.decode(errors="replace"))
    if rest.strip():
        yield "unfinished", rest.decode(errors="replace")


def _parse(frame: str) -> Event:
    """One event's name and data; the lines of its data are joined with newlines, as the format says."""
    name, data = "message", []
    for line in frame.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return name, "\n".join(data)


if __name__ == "__main__":
    main()
