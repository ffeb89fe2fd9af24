"""`tailrace up`: a stack file's functions in one terminal."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Running, Shell

pytestmark = pytest.mark.slow

HANDLER = "async def handle(event, context):\n    print('asked')\n    yield 'one'\n"
SLOW = """
import asyncio

async def handle(event, context):
    for i in range(40):
        yield f"old {i} "
        await asyncio.sleep(0.05)
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose environment is built once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A project with one function."""
    shell = Shell(tmp_path)
    assert shell.run("new", "talk").returncode == 0
    (tmp_path / "talk/handler.py").write_text(HANDLER)
    return shell


@contextmanager
def up(shell: Shell, state: Path, *args: str) -> Iterator[tuple[Running, str]]:
    """`tailrace up`, and the gateway's URL, once the first function answers."""
    with shell.start("up", "--port", "0", "--state-dir", str(state), *args) as running:
        url = running.wait_for(r"^tailrace +(http://\S+)  Ctrl-C")[1]
        running.wait_for(r"^talk +ready in [\d.]+ s \(import [\d.]+ s\)  " + url + "/function/talk$")
        yield running, url


def descendants(pid: int) -> list[int]:
    """Every process below pid."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = [child for child, parent in pairs if parent == pid]
    return [*found, *(below for child in found for below in descendants(child))]


def test_from_start_to_ctrl_c(shell: Shell, state: Path) -> None:
    """URL and command are shown, the log comes with the name in front, Ctrl-C leaves nothing behind."""
    with up(shell, state) as (running, url):
        running.wait_for(rf"^talk +try: curl -N {url}/function/talk -d hello$")
        answer = httpx.post(f"{url}/function/talk")
        running.wait_for(r"^talk +asked$")
        children = descendants(running.process.pid)

        code, took_s = running.stop()

        assert answer.text == "data: one\n\nevent: end\ndata: {}\n\n"
        assert (code, took_s < 1.0) == (0, True)
        assert children
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_sigterm_is_a_clean_end_too(shell: Shell, state: Path) -> None:
    """As a process manager stops it."""
    with up(shell, state) as (running, _):
        assert running.stop(signal.SIGTERM)[0] == 0


def test_a_save_answers_within_a_second_and_running_streams_finish(shell: Shell, state: Path) -> None:
    """New calls get the new code; the stream that was running ends as it began."""
    handler = shell.folder / "talk/handler.py"
    handler.write_text(SLOW)
    with up(shell, state) as (running, url), httpx.stream("GET", f"{url}/function/talk") as old:
        chunks = old.iter_text()
        first = next(chunks)

        handler.write_text(HANDLER.replace("one", "new"))

        told = running.wait_for(r"^talk +new code answers after ([\d.]+) s \(import [\d.]+ s\)$")
        assert float(told[1]) < 1.0
        assert httpx.get(f"{url}/function/talk").text.startswith("data: new\n")
        rest = first + "".join(chunks)
        assert re.findall(r"old (\d+)", rest) == [str(i) for i in range(40)]
        assert rest.endswith("event: end\ndata: {}\n\n")


def test_a_broken_save_is_told_once_and_the_old_code_serves(shell: Shell, state: Path) -> None:
    """The traceback's end, what to do, and that nothing is lost; the next good save mends it."""
    handler = shell.folder / "talk/handler.py"
    with up(shell, state) as (running, url):
        handler.write_text("import nowhere\n")
        running.wait_for(r"^talk +the old code still serves; mend it and save$")

        assert httpx.get(f"{url}/function/talk").text.startswith("data: one\n")
        assert running.text.count("import nowhere") == 1
        running.wait_for(r"^talk +add 'nowhere' to requirements.txt, or put it beside handler.py")
        handler.write_text(HANDLER.replace("one", "mended"))
        running.wait_for(r"^talk +new code answers after")
        assert httpx.get(f"{url}/function/talk").text.startswith("data: mended\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a socket is bound by way of /proc")
def test_what_cannot_be_packed_or_read_ends_nothing(shell: Shell, state: Path) -> None:
    """As when an editor takes its own file away while the folder is packed; the next save counts again."""
    with up(shell, state) as (running, url), socket.socket(socket.AF_UNIX) as odd:
        folder = os.open(shell.folder / "talk", os.O_RDONLY)
        odd.bind(f"/proc/self/fd/{folder}/left")
        os.close(folder)
        (shell.folder / "talk/handler.py").write_text(HANDLER.replace("one", "two"))
        running.wait_for(r"^talk +failed: .*/talk/left' cannot be packed: ")

        (shell.folder / "talk/left").unlink()
        running.wait_for(r"^talk +new code answers after ")
        assert "data: two" in httpx.post(f"{url}/function/talk").text

        stack = (shell.folder / "stack.yaml").read_text()
        (shell.folder / "stack.yaml").write_text(stack.replace("./talk", "~nosuchuser/talk"))
        running.wait_for(r"^stack.yaml +failed: .*no home folder")
        assert "data: two" in httpx.post(f"{url}/function/talk").text
        assert 0 == running.stop()[0]


def test_the_stack_file_is_followed(shell: Shell, state: Path) -> None:
    """Functions come and go with it; a mistake in it changes nothing; a missing secret says where."""
    stack = shell.folder / "stack.yaml"
    before = stack.read_text()
    with up(shell, state) as (running, url):
        assert shell.run("new", "second", "--append", "stack.yaml").returncode == 0
        running.wait_for(r"^second +ready in")

        stack.write_text(before.replace("lang:", "lnag:"))
        running.wait_for(r"^stack.yaml +failed: stack.yaml line \d+: 'lnag' is not a key of a function$")
        stack.write_text(before + "    secrets: [key]\n")
        running.wait_for(r"^talk +Write its value to .secrets/key beside the stack file\.$")
        running.wait_for(r"^second +removed$")
        assert httpx.get(f"{url}/function/second").status_code == 404
        assert httpx.get(f"{url}/function/talk").status_code == 200

        (shell.folder / ".secrets").mkdir()
        (shell.folder / ".secrets/key").write_text("value\n")
        running.wait_for(r"^talk +new code answers after")


def test_a_function_that_leaves_the_stack_file_while_it_starts_is_removed(shell: Shell, state: Path) -> None:
    """It is gone at once, not at the save after, and nobody says that it is ready."""
    file = shell.folder / "stack.yaml"
    before = file.read_text()
    assert shell.run("new", "slow", "--append", "stack.yaml").returncode == 0
    (shell.folder / "slow/handler.py").write_text(f"import time\n\ntime.sleep(30)\n{HANDLER}")
    with up(shell, state) as (running, url):
        file.write_text(before)

        running.wait_for(r"^slow +removed$")

        assert ["talk"] == [one["name"] for one in httpx.get(f"{url}/system/functions").json()]
        assert not re.search(r"^slow +ready", running.text, re.MULTILINE)


def test_secrets_do_not_outlive_it(shell: Shell, state: Path) -> None:
    """What it put into the state directory goes with it; what was there before stays."""
    kept = state / "secrets/openfaas-fn"
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    (kept / "before").write_text("of serve")
    (shell.folder / ".secrets").mkdir()
    for name in ("passing", "before"):
        (shell.folder / ".secrets" / name).write_text("s3cr3t\n")
    stack = shell.folder / "stack.yaml"
    stack.write_text(stack.read_text() + "    secrets: [passing, before]\n")
    with up(shell, state) as (running, _):
        assert (kept / "passing").is_file()

        assert 0 == running.stop()[0]

    assert not (kept / "passing").exists()
    assert (kept / "before").exists()


def test_a_failed_first_start_waits_for_the_next_save(shell: Shell, state: Path) -> None:
    """`up` goes on, so that it can be mended; functions that work are not kept from it."""
    assert shell.run("new", "bad", "--append", "stack.yaml").returncode == 0
    (shell.folder / "bad/handler.py").write_text("def handle(:\n")
    with up(shell, state) as (running, _):
        running.wait_for(r"^bad +failed: .*SyntaxError")
        running.wait_for(r"^bad +nothing serves until it is mended; mend it and save$")

        (shell.folder / "bad/handler.py").write_text(HANDLER)

        running.wait_for(r"^bad +new code answers after")


def test_a_model_beside_the_functions(shell: Shell, state: Path) -> None:
    """`--llm mock` hands over address, key and the secret; the stack file's own values win."""
    source = """
import os
def handle(req):
    key = open("/var/openfaas/secrets/openai-api-key").read()
    return f"{os.environ['OPENAI_BASE_URL']} {os.environ['OPENAI_API_KEY'] == key}"
"""
    assert shell.run("new", "ask", "--lang", "python3-flask", "--append", "stack.yaml").returncode == 0
    (shell.folder / "ask/handler.py").write_text(source)
    stack = shell.folder / "stack.yaml"
    stack.write_text(stack.read_text() + "    secrets: [openai-api-key]\n")
    with up(shell, state, "--llm", "mock") as (running, url):
        base = running.wait_for(r"^tailrace +model mock at (\S+)$")[1]
        running.wait_for(r"^ask +ready in")

        assert httpx.get(f"{url}/function/ask").text == f"{base} True"
        stack.write_text(stack.read_text() + "    environment: {OPENAI_BASE_URL: http://own/v1}\n")
        running.wait_for(r"^ask +new code answers after")
        assert httpx.get(f"{url}/function/ask").text == "http://own/v1 True"


def test_a_taken_port_names_its_owner(shell: Shell, state: Path) -> None:
    """And the option that gets around it."""
    with up(shell, state) as (running, url):
        port = url.rpartition(":")[2]
        second = shell.run("up", "--port", port, "--state-dir", str(shell.folder / "other"))

        assert second.returncode == 1
        assert f"error: 127.0.0.1:{port} is taken by '" in second.stderr
        assert f"(pid {running.process.pid})" in second.stderr
        assert "--port" in second.stderr
        third = shell.run("up", "--port", "0", "--state-dir", str(state))
        assert (third.returncode, f"pid {running.process.pid}" in third.stderr) == (1, True)


STUBBORN = """
import asyncio
from tailrace.cli.signals import run_until_stopped

async def work():
    print("running", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaning up", flush=True)
        await asyncio.Event().wait()

run_until_stopped(work())
"""


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    """Exit code 130 where cleaning up hangs; replicas hold a lifeline and end with their gateway."""
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"cleaning up\n"

        process.send_signal(signal.SIGINT)  # so soon it is the same press, passed on by a wrapper
        code = None
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(0.25)
            process.send_signal(signal.SIGINT)

    assert code == 130


def test_each_starter_works_as_it_is(tmp_path: Path, state: Path) -> None:
    """What `new` writes answers, with no requirement added."""
    shell = Shell(tmp_path)
    assert shell.run("new", "talk", "--lang", "python3-stream").returncode == 0
    assert shell.run("new", "web", "--lang", "python3-flask", "--append", "stack.yaml").returncode == 0
    assert shell.run("new", "api", "--lang", "python3-http", "--append", "stack.yaml").returncode == 0
    with up(shell, state, "--auth") as (running, url):
        running.wait_for(r"^tailrace +user admin, password \S+ \(shown only now\)$")
        for name in ("web", "api"):
            running.wait_for(rf"^{name} +ready in")
        said = {n: shell.run("invoke", n, "-g", url, "-d", "Ada").stdout for n in ("talk", "web", "api")}

    assert said["talk"].startswith("Hello, Ada! Each word")
    assert (said["web"], said["api"]) == ("Hello, Ada!\n", "Hello, Ada!\n")
