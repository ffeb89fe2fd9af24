"""cli llm: the mock as a command of its own, and a model for as long as a context lasts."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import subprocess
import sys

import httpx
import pytest

from tailrace.cli.commands import llm
from tailrace.errors import InvalidRequest
from tailrace.llm.behaviour import KNOBS
from tailrace.llm.running import running_llm

MAIN = "import sys; from tailrace.cli.commands.llm import app; app(sys.argv[1:])"


def test_every_knob_has_its_flag() -> None:
    """What a model's name can ask for, the command line can too."""
    flags = inspect.signature(llm.mock).parameters

    assert {knob.key for knob in KNOBS} <= set(flags)


def test_a_wrong_value_is_refused_before_it_listens() -> None:
    """The error is the knob's own."""
    with pytest.raises(InvalidRequest, match="command line: tps=fast is not tokens per second"):
        llm.mock(tps="fast")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_mock_runs_until_it_is_asked_to_stop(signum: signal.Signals) -> None:
    """One line of JSON says where it is; a signal ends it cleanly, with a stream open."""
    command = [sys.executable, "-c", MAIN, "mock", "--port", "0", "--json", "--tps", "20", "--tokens", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = json.loads(process.stdout.readline())
        body = {"model": said["model"], "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        with (
            httpx.Client(base_url=said["base_url"], trust_env=False) as client,
            client.stream("POST", "/chat/completions", json=body) as reply,
        ):
            next(reply.iter_lines())

            process.send_signal(signum)

            assert process.wait(5) == 0
        assert process.stderr.read() == ""


def test_a_mock_beside_functions_has_a_key_and_ends_with_its_context() -> None:
    """What ``tailrace up --llm mock`` hands to functions works while it runs, and only with the key."""

    async def main() -> None:
        async with running_llm("mock") as endpoint, httpx.AsyncClient(trust_env=False) as client:
            url = f"{endpoint.base_url}/models"
            right = await client.get(url, headers={"Authorization": f"Bearer {endpoint.api_key}"})
            wrong = await client.get(url)
            assert (right.status_code, wrong.status_code) == (200, 401)
            assert endpoint.env["OPENAI_BASE_URL"] == endpoint.base_url
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(url)

    asyncio.run(main())
