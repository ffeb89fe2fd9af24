"""One gateway follows another on a socket that neither of them owns: no caller is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tailrace.ports import BACKLOG
from tests.kit.cli import Shell
from tests.kit.loops import run
from tests.kit.served import Caller, Serve

pytestmark = pytest.mark.slow

HANDLER = """
import asyncio, os

async def handle(event, context):
    yield str(os.getppid())
    await asyncio.sleep(float(event.query.get("s", "0")))
"""
END = "event: end\ndata: {}\n\n"


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """A state directory with `who`, which says whose replica it is."""
    folder = tmp_path_factory.mktemp("serve")
    serve = Serve(Shell(folder), folder / "state")
    with serve.start() as (running, url):
        serve.deploy(url, "who", HANDLER)
        assert running.stop(signal.SIGTERM)[0] == 0
    return serve


@contextmanager
def held_socket(host: str = "127.0.0.1") -> Iterator[tuple[int, str]]:
    """A listening socket of this process: its descriptor, and its URL."""
    with socket.create_server((host, 0), backlog=BACKLOG) as sock:
        yield sock.fileno(), f"http://127.0.0.1:{sock.getsockname()[1]}"


async def ask_on(url: str, is_over: asyncio.Event) -> list[tuple[str, float]]:
    """Call again and again, each time on a new connection; what each said, and how long it took."""
    answers = []
    while not is_over.is_set():
        begin = time.monotonic()
        caller = await Caller.connect(url)
        caller.ask("/function/who")
        await caller.read_until(END)
        caller.close()
        answers.append((caller.text.partition("data: ")[2].partition("\n")[0], time.monotonic() - begin))
    return answers


def test_no_call_is_refused_while_a_gateway_is_replaced(serve: Serve) -> None:
    """Eight callers that never pause are answered by one gateway, wait, and are answered by the next."""

    async def main() -> None:
        with held_socket() as (fd, url):
            is_over = asyncio.Event()
            with serve.start("--fd", str(fd), pass_fds=(fd,)) as (first, first_url):
                long = await Caller.stream(url, "/function/who?s=1")
                asking = [asyncio.create_task(ask_on(url, is_over)) for _ in range(8)]
                await asyncio.sleep(0.5)

                code, _ = await asyncio.to_thread(first.stop, signal.SIGTERM)

            with serve.start("--fd", str(fd), pass_fds=(fd,)) as (second, _):
                await asyncio.sleep(0.5)
                is_over.set()
                answers = [answer for answers in await asyncio.gather(*asking) for answer in answers]

                assert (0, first_url) == (code, url)
                assert END in await long.read_rest()
                gateways = [int(pid) for pid, _ in answers]
                assert {first.process.pid, second.process.pid} == set(gateways)
                assert min(map(gateways.count, set(gateways))) > 8
                assert second.stop(signal.SIGTERM)[0] == 0

    run(main())


def test_two_gateways_on_one_socket_leave_no_pause(serve: Serve, tmp_path: Path) -> None:
    """The next one, with a state directory of its own, accepts before the first one stops: nobody waits."""
    following = Serve(Shell(tmp_path), tmp_path / "state")
    with following.start() as (running, url):
        following.deploy(url, "who", HANDLER)
        assert running.stop(signal.SIGTERM)[0] == 0

    async def main() -> None:
        with held_socket() as (fd, url):
            is_over = asyncio.Event()
            flags = ("--fd", str(fd))
            with serve.start(*flags, pass_fds=(fd,)) as (first, _), ExitStack() as stack:
                long = await Caller.stream(url, "/function/who?s=1.5")
                asking = [asyncio.create_task(ask_on(url, is_over)) for _ in range(4)]
                second_start = following.start(*flags, pass_fds=(fd,))
                second, _ = await asyncio.to_thread(stack.enter_context, second_start)
                await asyncio.to_thread(first.stop, signal.SIGTERM)
                is_over.set()
                answers = [answer for answers in await asyncio.gather(*asking) for answer in answers]

                assert END in await long.read_rest()
                assert {first.process.pid, second.process.pid} == {int(pid) for pid, _ in answers}
                assert max(took_s for _, took_s in answers) < 0.5
                assert second.stop(signal.SIGTERM)[0] == 0

    run(main())


def test_a_handed_in_socket_is_not_listened_on_before_the_replicas_are_there(serve: Serve) -> None:
    """The first call of all finds its replica ready: nobody waits in a queue with an end."""

    async def main() -> None:
        with held_socket() as (fd, url):
            caller = await Caller.connect(url)
            caller.ask("/function/who")  # long before anybody listens
            with serve.start("--fd", str(fd), "--queue-timeout-s", "0.01", pass_fds=(fd,)):
                await caller.read_until(END)

                caller.close()
                assert caller.text.startswith("HTTP/1.1 200")

    run(main())


def test_a_unix_socket_can_be_handed_in(serve: Serve, tmp_path: Path) -> None:
    """For a proxy on the same machine."""
    path = os.path.relpath(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(16)
        fd = sock.fileno()
        with (
            serve.start("--fd", str(fd), pass_fds=(fd,)) as (running, url),
            httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://localhost") as http,
        ):
            answer = http.get("/function/who")

            assert answer.text == f"data: {running.process.pid}\n\n{END}"
            assert url == f"unix:{path}"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("closed", "descriptor 77 is not open: nobody handed it in"),
        ("everywhere", "listening on 0.0.0.0 without auth could let anybody deploy code here"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(serve: Serve, kind: str, said: str) -> None:
    """The real address of the socket is judged, whatever --host says."""
    with held_socket("0.0.0.0") as (fd, _):  # noqa: S104
        args = ["serve", "--state-dir", str(serve.state), "--metrics-port", "off", "--host", "127.0.0.1"]
        number = 77 if kind == "closed" else fd
        with serve.shell.start(*args, "--fd", str(number), pass_fds=(fd,)) as running:
            code = running.wait_end()

    assert code == 1
    assert f"error: {said}" in running.text


# systemd sets LISTEN_PID between fork and exec; so does this.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tailrace.socket"}
os.execv(sys.executable, [sys.executable, "-c", "from tailrace.cli.main import main; main()", *sys.argv[2:]])
"""


def test_a_socket_of_systemd_is_found(serve: Serve) -> None:
    """Without an option; the log says where it came from."""
    with held_socket() as (fd, url):
        args = ["serve", "--state-dir", str(serve.state), "--metrics-port", "off"]
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(fd), *args],
            pass_fds=(fd,), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with process:
            answer = httpx.get(f"{url}/function/who", timeout=30)
            process.send_signal(signal.SIGTERM)
            text = process.communicate()[0]

    assert answer.text == f"data: {process.pid}\n\n{END}"
    assert (0, True) == (process.returncode, f"listening on {url}" in text)
    assert "fd                     3  (systemd)" in text
