"""The process provider with the runtime that ships: needs a package index, or uv's cache."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tailrace.errors import HandlerNotLoaded
from tailrace.model import FunctionSpec
from tailrace.provider.conformance import (
    CHECKS,
    Behaviour,
    Check,
    Subject,
    a_stubborn_replica_is_killed_after_the_grace,
    run_check,
)
from tests.kit.loops import run
from tests.kit.process import House, open_house

REPO = Path(__file__).parent.parent.parent
PLAIN = "def handle(req):\n    print('heard', req)\n    return 'hello ' + req\n"
HANDLERS: dict[Behaviour, str] = {
    "answers": PLAIN,
    "cannot-load": "import numpy_that_is_not_there\n",
    "never-loads": "import os; ends = os.pipe(); os.read(ends[0], 1)\n",
    "stubborn": PLAIN,
}
# This runtime ends by itself in bounded time, whatever the handler does; the fake one is killed instead.
CHECKED = [check for check in CHECKS if check is not a_stubborn_replica_is_killed_after_the_grace]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose state keeps its environment, so that it is built once."""
    return tmp_path_factory.mktemp("real")


@asynccontextmanager
async def real_house(folder: Path) -> AsyncIterator[House]:
    async with open_house(folder, runtime=None) as house:
        yield house


@pytest.mark.parametrize("check", CHECKED, ids=lambda check: check.__name__)
def test_conforms(shared: Path, check: Check) -> None:
    """The provider that users get passes the suite."""

    @asynccontextmanager
    async def open_subject() -> AsyncIterator[Subject]:
        async with real_house(shared) as house:

            async def make_spec(name: str, behaviour: Behaviour) -> FunctionSpec:
                return await house.deploy(name, HANDLERS[behaviour])

            yield Subject(house.provider, make_spec)

    run(run_check(check, open_subject))


async def ask(path: str, body: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    head = [
        "POST / HTTP/1.1",
        "Host: f",
        "X-Call-Id: abc",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    writer.write("\r\n".join([*head, "", body]).encode())
    try:
        return await reader.read()
    finally:
        writer.close()


def test_a_handler_answers_and_its_prints_are_logged_with_the_call(shared: Path) -> None:
    """From source to answer, and the line it printed carries the call's id."""

    async def main() -> None:
        async with real_house(shared) as house:
            replica = await house.provider.start(await house.deploy("f", PLAIN), "f-1")
            assert (await ask(replica.address.path, "you")).endswith(b"\r\n\r\nhello you")
            assert 0 == (await replica.stop(5)).code
            assert [("heard you\n", "abc")] == [
                (line.text, line.call_id) for line in house.logged if line.instance == "f-1"
            ]

    run(main())


def test_a_missing_module_says_what_to_add(shared: Path) -> None:
    """The hint is the runtime's own."""

    async def main() -> None:
        async with real_house(shared) as house:
            with pytest.raises(HandlerNotLoaded, match="No module named 'numpy'") as caught:
                await house.provider.start(await house.deploy("f", "import numpy\n" + PLAIN), "f-1")
            assert "add 'numpy' to requirements.txt" in str(caught.value.hint)

    run(main())


GATEWAY = """
import asyncio, sys
from pathlib import Path
from tests.kit.process import open_house
async def main():
    async with open_house(Path(sys.argv[1]), runtime=None) as house:
        replica = await house.provider.start(await house.deploy("f", sys.argv[2]), "f-1")
        print(replica.address.path, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_gateway_killed_with_kill_9_takes_its_replica_with_it(shared: Path) -> None:
    """An open connection to the replica ends soon after the gateway is gone."""

    async def main() -> None:
        gateway = subprocess.Popen(  # noqa: ASYNC220  # the test has nothing else to do
            [sys.executable, "-c", GATEWAY, str(shared), PLAIN],
            stdout=subprocess.PIPE, cwd=REPO, env=os.environ | {"PYTHONPATH": str(REPO)},
        )  # fmt: skip
        with gateway:
            assert gateway.stdout is not None
            path = gateway.stdout.readline().decode().strip()
            reader, writer = await asyncio.open_unix_connection(path)

            gateway.kill()

            with suppress(ConnectionResetError):  # the end of a connection that was not accepted yet
                assert b"" == await asyncio.wait_for(reader.read(), 5)
            writer.close()
        async with real_house(shared) as house:
            assert [] == [*house.state.replicas.iterdir(), *house.state.sockets.iterdir()]

    asyncio.run(main())
