"""Behaviour 1, why the product exists: each event arrives when it was made, whatever the request says."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.kit.gateway import Town
from tests.kit.nginx import stock_nginx
from tests.kit.patience import best_s

CLOCKS = ("clock", "async-clock")
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

ASYNC_CLOCK = """
import asyncio, time

async def handle(event, context):
    for n in range(5):
        await asyncio.sleep(0.2)
        yield str(time.monotonic())
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
        ("async-clock", ASYNC_CLOCK, "python3-stream", ""),
        ("chat", OPENAI, "python3-stream", "openai\n"),
    ):
        status = town.deploy(name, source, lang=lang, requirements=needs)
        assert status.get("availableReplicas") == 1, status


def slowest_s(url: str, accept: str) -> float:
    """The longest time that an event took from its yield to here, of both functions read side by side."""
    with ThreadPoolExecutor() as pool:
        return max(*pool.map(lambda name: _slowest_s(f"{url}/function/{name}", accept), CLOCKS))


def _slowest_s(url: str, accept: str) -> float:
    found = []
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    with httpx.stream("POST", url, content="x", headers=headers, timeout=30) as reply:
        for line in reply.iter_lines():
            if line.startswith("data:") and line != "data: {}":
                found.append(time.monotonic() - float(line[5:]))
    assert 5 == len(found)
    assert not {"content-length", "etag", "content-encoding"} & set(reply.headers)
    return max(found)


@pytest.mark.slow
@pytest.mark.parametrize("accept", ACCEPTS)
def test_events_arrive_within_50_ms_of_their_yield(town: Town, accept: str) -> None:
    """The response decides to stream; the Accept header has no say."""
    assert best_s(lambda: slowest_s(town.url, accept), 0.05) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("accept", ACCEPTS)
def test_a_stock_nginx_in_front_delays_nothing(town: Town, tmp_path: Path, accept: str) -> None:
    """nginx buffers by default; `X-Accel-Buffering: no` tells it not to."""
    with stock_nginx(tmp_path, town.url) as url:
        assert best_s(lambda: slowest_s(url, accept), 0.05) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOCKS)
def test_a_stream_asks_a_proxy_not_to_buffer_it(town: Town, name: str) -> None:
    """`X-Accel-Buffering: no`, whatever the function set."""
    with httpx.stream("GET", f"{town.url}/function/{name}", timeout=30) as reply:
        assert "no" == reply.headers["x-accel-buffering"]


@pytest.mark.slow
def test_the_models_tokens_arrive_as_the_model_sends_them(town: Town) -> None:
    """Through function and gateway a real OpenAI client sees the mock's pace, not a burst."""
    gaps: list[float] = []

    def first_s() -> float:
        arrivals = token_arrivals(town)
        gaps[:] = [b - a for a, b in itertools.pairwise(arrivals)]
        return arrivals[0]

    assert best_s(first_s, 0.25) <= 0.25  # the model's 0.1 s are in it; the function's own client is not warm
    assert sum(0.02 < gap < 0.1 for gap in gaps) > 0.7 * len(gaps) > 20


def token_arrivals(town: Town) -> list[float]:
    """When each chunk of an answer of 40 tokens came, in seconds since it was asked for."""
    query = {"model": "mock?tokens=40"}
    with openai.OpenAI(base_url=f"{town.url}/function/chat", api_key="x", default_query=query) as client:
        began = time.monotonic()
        with client.chat.completions.create(
            model="any", stream=True, messages=[{"role": "user", "content": "hi"}]
        ) as stream:
            return [time.monotonic() - began for chunk in stream if chunk.choices[0].delta.content]


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
