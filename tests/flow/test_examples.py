"""The examples as they stand, deployed for real: the seed's question, the answer word by word."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tailrace.cli.stackfile import load_stack
from tailrace.wire.sse import SseDecoder
from tests.kit.gateway import Town

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "What are some calorie dense foods?"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stream", "stream-openai", "stream-seed"])
def test_an_example_streams_the_models_answer_word_by_word(town: Town, name: str) -> None:
    """Installed from its own pins, keyed by its secret, asked without an Accept header."""
    (function,) = load_stack(EXAMPLES / name / "stack.yaml", {}).functions
    assert function.handler is not None
    with town.http() as http:
        http.post("/system/secrets", json={"name": "openai-api-key", "value": "mock"})
    status = town.deploy(
        name,
        (function.handler / "handler.py").read_text(),
        lang=function.lang,
        requirements=(function.handler / "requirements.txt").read_text(),
        secrets=["openai-api-key"],
    )
    assert status.get("availableReplicas") == 1, status

    arrivals, words, decoder = [], [], SseDecoder()
    request = httpx.Request("POST", f"{town.url}/function/{name}", content=QUESTION)
    request.headers.pop("Accept", None)
    with httpx.Client(timeout=30) as client:
        reply = client.send(request, stream=True)
        for piece in reply.iter_bytes():
            events = [event for event in decoder.feed(piece) if event.data and event.event != "end"]
            arrivals += [time.monotonic()] * len(events)
            words += [event.data for event in events]
        reply.close()

    assert reply.headers["content-type"].startswith("text/event-stream")
    assert "".join(words).startswith("Some calorie dense foods")
    assert len(words) > 20
    assert arrivals[-1] - arrivals[0] > 0.7 * len(words) / 20, "the words came at the model's pace"
