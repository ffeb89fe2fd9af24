"""serve: the real model answers, stops, and dies with whoever started it. Shapes only, never words."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest

from tailrace.errors import AddressTaken, InvalidRequest, ModelUnavailable
from tailrace.llm.install import InstalledModel
from tailrace.llm.serve import Endpoint, running_model
from tailrace.ports import bind_tcp
from tests.kit.local_model import needs_local_model
from tests.kit.patience import wait_until
from tests.kit.ps import is_gone

pytestmark = [pytest.mark.slow, pytest.mark.model]


def tell_nobody(text: str) -> None:
    del text


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """``tailrace llm serve`` in a process of its own, on a free port."""
    needs_local_model()
    command = [str(Path(sys.executable).with_name("tailrace")), "llm", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield Endpoint(said["base_url"], said["api_key"], said["model"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(said["base_url"], trust_env=False)


def test_the_real_model_streams_its_answer(endpoint: Endpoint) -> None:
    """Several chunks, some text, a reason for the end."""
    with (
        openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0) as client,
        client.chat.completions.create(
            model=endpoint.model,
            messages=[{"role": "user", "content": "Name three colours."}],
            max_tokens=40,
            stream=True,
        ) as stream,
    ):
        chunks = [chunk for chunk in stream if chunk.choices]

    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(said) >= 3
    assert "".join(said).strip()
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_an_answer_without_a_limit_is_bounded(endpoint: Endpoint) -> None:
    """A client that names no max_tokens does not occupy the model until its context is full."""
    with openai.OpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0) as client:
        whole = client.chat.completions.create(
            model=endpoint.model,
            messages=[{"role": "user", "content": "Count."}],
            extra_body={"ignore_eos": True},
        )

    assert whole.usage is not None
    assert whole.usage.completion_tokens == 256


def test_the_key_is_needed(endpoint: Endpoint) -> None:
    """Another user of the machine cannot use it by its port alone."""
    with (
        openai.OpenAI(base_url=endpoint.base_url, api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi"}])


def test_it_stops_quickly_with_a_stream_open() -> None:
    """The server's own destructor would hang; the process is ended instead."""
    installed = needs_local_model()

    async def main() -> float:
        async with running_model(installed, tell=tell_nobody) as process:
            end = process.endpoint
            client = openai.AsyncOpenAI(base_url=end.base_url, api_key=end.api_key, max_retries=0)
            stream = await client.chat.completions.create(
                model=end.model,
                messages=[{"role": "user", "content": "Count."}],
                extra_body={"ignore_eos": True},
                stream=True,
            )
            await anext(stream)
            started = time.monotonic()
        took_s = time.monotonic() - started
        with suppress(openai.OpenAIError, httpx.HTTPError):
            await stream.close()
        await client.close()
        return took_s

    assert asyncio.run(main()) < 1.0


def test_it_dies_with_whoever_started_it() -> None:
    """Also when that one is killed outright: the lifeline's end is enough."""
    needs_local_model()
    script = (
        "import asyncio\n"
        "from tailrace.llm.install import find_model\n"
        "from tailrace.llm.serve import running_model\n"
        "async def main():\n"
        "    async with running_model(find_model(), tell=lambda text: None) as process:\n"
        "        print(process.pid, process.endpoint.base_url, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, base_url = parent.stdout.readline().split()
        try:
            assert httpx.get(f"{base_url}/models", trust_env=False).status_code == 401  # it asks for its key
        finally:
            parent.kill()

        wait_until(lambda: is_gone(int(pid)), "the model is gone", 5)


def test_a_model_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """The reason is told, and the mock is offered."""
    installed = needs_local_model()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))

    async def main() -> None:
        async with running_model(InstalledModel(installed.path, installed.python, broken), tell=tell_nobody):
            pytest.fail("it started")

    with pytest.raises(ModelUnavailable) as failed:
        asyncio.run(main())

    assert "--llm mock" in (failed.value.hint or "")


def test_addresses_are_checked_first() -> None:
    """A foreign address or a taken port is told before a process is started."""
    nowhere = InstalledModel(Path("/nowhere"), Path("/nowhere/python"), Path("/nowhere/gguf"))

    async def main(host: str, port: int) -> None:
        async with running_model(nowhere, host=host, port=port, tell=tell_nobody):
            pytest.fail("it started")

    with pytest.raises(InvalidRequest, match="not loopback"):
        asyncio.run(main("0.0.0.0", 0))  # noqa: S104
    with bind_tcp("127.0.0.1", 0) as taken, pytest.raises(AddressTaken):
        asyncio.run(main("127.0.0.1", taken.getsockname()[1]))
