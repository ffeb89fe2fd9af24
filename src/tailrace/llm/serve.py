"""Runs the local model beside us: its process is started, watched and ended here."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tailrace.errors import ModelUnavailable
from tailrace.llm.install import InstalledModel, Tell
from tailrace.llm.loopback import check_loopback
from tailrace.llm.machine import OFFER
from tailrace.ports import bind_tcp

MODEL = "smollm2-135m-instruct"
# Loading takes 1 to 2 s, 3 s from a cold disk, more where builds run beside it.
READY_TIMEOUT_S = 120.0
# With a stream open the server may take its time; then it is killed.
STOP_GRACE_S = 3.0

_SCRIPT = Path(__file__).with_name("model_process.py")
_PASSED = ("PATH", "LANG", "TZ", "HOME", "TMPDIR")
_QUOTED_LINES = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers. ``base_url`` ends in ``/v1``, as OpenAI's clients take it."""

    base_url: str
    api_key: str
    model: str

    @property
    def env(self) -> dict[str, str]:
        """The variables that OpenAI's clients and our examples read."""
        return {
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": self.api_key,
            "OPENAI_MODEL": self.model,
        }


class ModelProcess:
    """A running model. ``endpoint`` says where; `wait_gone` returns when it has died by itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.endpoint = Endpoint("", "", MODEL)
        self.pid = process.pid
        self._process = process
        self._words: deque[str] = deque(maxlen=200)
        self._listening = asyncio.create_task(self._listen(), name="words of the local model")

    async def wait_gone(self) -> ModelUnavailable:
        """The reason why it is gone, once it is."""
        await self._listening
        return self._died(await self._process.wait())

    async def wait_ready(self, config: dict[str, object]) -> None:
        """Hand it its configuration and wait until it answers.

        Raises:
            ModelUnavailable: it died, or was not ready within READY_TIMEOUT_S.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # pipes were asked for
        assert stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                with suppress(ConnectionError):  # it is dead already; the report's end says so
                    stdin.write(json.dumps(config).encode() + b"\n")
                    await stdin.drain()
                report = await stdout.readline()
        except TimeoutError:
            raise ModelUnavailable(
                f"the local model was not ready within {READY_TIMEOUT_S:.0f} s", hint=OFFER
            ) from None
        said = json.loads(report) if report.endswith(b"\n") else {}
        if said.get("type") == "failed":
            raise ModelUnavailable(f"the local model did not start: {said['error']}", hint=OFFER)
        if "url" not in said:
            raise await self.wait_gone()
        await self._check_health(said["url"])
        self.endpoint = Endpoint(f"{said['url']}/v1", str(config["api_key"]), MODEL)

    async def _check_health(self, url: str) -> None:
        """It listens once it is loaded, so one answer is enough."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                (await client.get(f"{url}/health")).raise_for_status()
        except httpx.HTTPError as failed:
            raise ModelUnavailable(f"the local model does not answer: {failed}", hint=OFFER) from failed

    async def aclose(self) -> None:
        """End it: TERM, then KILL after STOP_GRACE_S."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signum)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_GRACE_S):
                    await self._process.wait()
                    break
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        """Keep the last of what it writes: the reason, should it die."""
        assert self._process.stderr is not None  # a pipe was asked for
        while data := await self._process.stderr.read(4096):
            self._words.extend(data.decode("utf-8", "replace").splitlines())

    def _died(self, code: int) -> ModelUnavailable:
        if code == -signal.SIGILL:
            return ModelUnavailable(
                "this CPU lacks instructions that the local model's build needs", hint=OFFER
            )
        quoted = "\n".join(list(self._words)[-_QUOTED_LINES:])
        return ModelUnavailable(f"the local model's process ended with {code}:\n{quoted}", hint=OFFER)


@asynccontextmanager
async def running_model(
    installed: InstalledModel,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    max_tokens: int = 256,
    tell: Tell,
) -> AsyncIterator[ModelProcess]:
    """The local model, ready to answer; its process ends when the context does, or with this process.

    Args:
        port: 0 takes a free one.
        api_key: What clients must bring; None: a random one, found in the endpoint.
        max_tokens: Length of an answer whose request names none.
    Raises:
        InvalidRequest: the host is not loopback.
        AddressTaken: the port belongs to somebody else.
        ModelUnavailable: it did not start.
    """
    check_loopback(host)
    bind_tcp(host, port).close()
    tell("loading the local model")
    config: dict[str, object] = {
        "gguf": str(installed.gguf),
        "model": MODEL,
        "host": host,
        "port": port,
        "api_key": api_key or secrets.token_urlsafe(24),
        "batch_threads": min(2, os.cpu_count() or 1),
        "max_tokens": max_tokens,
    }
    process = ModelProcess(await _start(installed))
    try:
        await process.wait_ready(config)
        yield process
    finally:
        await asyncio.shield(process.aclose())


async def _start(installed: InstalledModel) -> asyncio.subprocess.Process:
    env = {key: os.environ[key] for key in _PASSED if key in os.environ}
    # Without these llama.cpp's threads spin while they wait, and starve whatever runs beside them.
    env |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    return await asyncio.create_subprocess_exec(
        str(installed.python), "-I", str(_SCRIPT),
        env=env, cwd="/", start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
