"""What the product exists for: each event arrives when it was made, whatever the request says."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from tests.kit.gateway import Town
from tests.kit.needs import needs_nginx

ACCEPTS = ("*/*", "application/json", "application/json, text/event-stream", "text/event-stream")

# Every event carries the moment of its yield: one machine, one clock.
CLOCK = """
import time
from flask import Response

def handle(req):
    def tell():
        for n in range(5):
            time.sleep(0.2)
            yield f"data: {time.monotonic()}\\n\\n"
    return Response(tell(), mimetype="text/event-stream")
"""

OPENAI = """
from os import environ
from openai import AsyncOpenAI
client = AsyncOpenAI()

async def handle(event, context):
    context.content_type = "text/event-stream"
    stream = await client.chat.completions.create(
        model=event.query.get("model", "mock"), stream=True,
        messages=[{"role": "user", "content": event.body.decode()}],
    )
    async with stream:
        async for chunk in stream:
            yield b"data: " + chunk.model_dump_json().encode() + b"\\n\\n"
    yield b"data: [DONE]\\n\\n"
"""


@pytest.fixture(scope="module", autouse=True)
def functions(town: Town) -> None:
    """The functions of this module."""
    for name, source, lang, needs in (
        ("clock", CLOCK, "python3-flask", ""),
        ("chat", OPENAI, "python3-stream", "openai\n"),
    ):
        status = town.deploy(name, source, lang=lang, requirements=needs)
        assert status.get("availableReplicas") == 1, status


def delays(url: str, headers: dict[str, str]) -> tuple[list[float], httpx.Response]:
    """Seconds from each event's yield to its arrival."""
    found = []
    with httpx.stream("POST", url, content="x", headers=headers, timeout=30) as reply:
        for line in reply.iter_lines():
            if line.startswith("data:"):
                found.append(time.monotonic() - float(line[5:]))
    return found, reply


@pytest.mark.slow
@pytest.mark.parametrize("accept", ACCEPTS)
def test_events_arrive_within_50_ms_of_their_yield(town: Town, accept: str) -> None:
    """The response decides to stream; the Accept header has no say."""
    found, reply = delays(f"{town.url}/function/clock", {"Accept": accept, "Accept-Encoding": "gzip"})

    assert len(found) == 5
    assert max(found) <= 0.05
    assert "content-length" not in reply.headers
    assert "etag" not in reply.headers
    assert "content-encoding" not in reply.headers
    assert reply.headers["x-accel-buffering"] == "no"


@contextmanager
def stock_nginx(folder: Path, upstream: str) -> Iterator[str]:
    """nginx with its default settings in front of an address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    temp = "".join(f"{kind}_temp_path {folder};" for kind in ("fastcgi", "uwsgi", "scgi", "proxy"))
    (folder / "nginx.conf").write_text(
        f"daemon off; error_log stderr error; pid {folder}/pid; events {{}} http {{ access_log off; {temp}"
        f" client_body_temp_path {folder}; server {{ listen 127.0.0.1:{port};"
        f" location / {{ proxy_pass {upstream}; }} }} }}"
    )
    command = [str(needs_nginx()), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert nginx.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        nginx.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("accept", ACCEPTS)
def test_a_stock_nginx_in_front_delays_nothing(town: Town, tmp_path: Path, accept: str) -> None:
    """nginx buffers by default; `X-Accel-Buffering: no` tells it not to."""
    with stock_nginx(tmp_path, town.url) as url:
        found, _ = delays(f"{url}/function/clock", {"Accept": accept})

    assert len(found) == 5
    assert max(found) <= 0.05


@pytest.mark.slow
def test_the_models_tokens_arrive_as_the_model_sends_them(town: Town) -> None:
    """Through function and gateway a real OpenAI client sees the mock's pace, not a burst."""
    client = openai.OpenAI(base_url=f"{town.url}/function/chat", api_key="x", max_retries=0)

    arrivals, text = [], ""
    began = time.monotonic()
    with client.chat.completions.create(
        model="mock", stream=True, messages=[{"role": "user", "content": "What are calorie dense foods?"}]
    ) as stream:
        for chunk in stream:
            arrivals.append(time.monotonic() - began)
            text += chunk.choices[0].delta.content or ""

    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    assert text
    assert arrivals[0] < 0.5
    assert sum(0.02 < gap < 0.1 for gap in gaps) > 0.7 * len(gaps)


@pytest.mark.slow
def test_a_model_that_breaks_mid_stream_breaks_the_stream_truthfully(town: Town) -> None:
    """Exactly one error object ends it, the one OpenAI's SDKs raise from; the traceback is in the logs."""
    raw = httpx.post(
        f"{town.url}/function/chat?model=mock%3Fttft%3D0%26tps%3D100%26reset_after%3D5",
        content="hello",
        timeout=30,
    )
    events = [json.loads(line[6:]) for line in raw.text.splitlines() if line.startswith("data: {")]

    assert [bool(event.get("error")) for event in events].count(True) == 1
    assert events[-1]["error"]["code"] == "function_failed"
    assert "[DONE]" not in raw.text
    assert "Traceback" not in raw.text
    assert "Traceback" in town.log_text(raw.headers["x-call-id"])
