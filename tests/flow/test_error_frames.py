"""Behaviour 6: a real status before the first byte, one terminal frame after it, as openai sees them."""

from __future__ import annotations

import json
import os
import signal

import httpx
import openai
import pytest

from tests.kit.gateway import Town
from tests.kit.patience import wait_until

pytestmark = pytest.mark.slow

# A model behind OpenAI's API, in which the name of the model says how it goes.
SYNC = """
import json, time
from flask import Response

def handle(req):
    wish = json.loads(req)["model"]
    def tell():
        if wish == "early":
            raise ValueError("too early")
        for n in range(3):
            chunk = {"object": "chat.completion.chunk", "id": "c", "created": 1, "model": "m"}
            chunk["choices"] = [{"index": 0, "finish_reason": None, "delta": {"content": f"w{n} "}}]
            yield f"data: {json.dumps(chunk)}\\n\\n"
        if wish == "late":
            raise ValueError("too late")
        time.sleep(60)
    return Response(tell(), mimetype="text/event-stream")
"""
ASYNC = """
import asyncio, json

async def handle(event, context):
    context.content_type = "text/event-stream"
    wish = json.loads(event.body)["model"]
    if wish == "early":
        raise ValueError("too early")
    for n in range(3):
        chunk = {"object": "chat.completion.chunk", "id": "c", "created": 1, "model": "m"}
        chunk["choices"] = [{"index": 0, "finish_reason": None, "delta": {"content": f"w{n} "}}]
        yield f"data: {json.dumps(chunk)}\\n\\n".encode()
    if wish == "late":
        raise ValueError("too late")
    await asyncio.sleep(60)
"""
HANDLERS = {"sync": (SYNC, "python3-flask"), "async": (ASYNC, "python3-stream")}


@pytest.fixture(scope="module", autouse=True)
def functions(town: Town) -> None:
    """The functions of this module."""
    for name, (source, lang) in HANDLERS.items():
        status = town.deploy(name, source, lang=lang)
        assert status.get("availableReplicas") == 1, status


def ask(town: Town, name: str, model: str, *, is_killed: bool = False) -> tuple[str, openai.APIError]:
    """What openai's client read, and what it raised. ``is_killed``: the replica, after the third chunk."""
    said = ""
    with (
        openai.OpenAI(
            base_url=f"{town.url}/function/{name}", api_key="x", max_retries=0, timeout=30
        ) as client,
        pytest.raises(openai.APIError) as failed,
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], stream=True
        ) as chunks,
    ):
        for count, chunk in enumerate(chunks, 1):
            said += chunk.choices[0].delta.content or ""
            if is_killed and count == 3:
                kill_replica(town, name)
    return said, failed.value


def kill_replica(town: Town, name: str) -> None:
    handle = next(f for f in town.gateway.table if f.name.name == name).ready[0].handle
    assert handle is not None
    os.kill(handle.pid, signal.SIGKILL)


@pytest.mark.parametrize("name", HANDLERS)
def test_before_the_first_byte_it_is_500_with_json(town: Town, name: str) -> None:
    """Though the handler has declared an event stream; the traceback is in the logs alone."""
    _, error = ask(town, name, "early")

    assert isinstance(error, openai.InternalServerError)
    reply = error.response
    told = reply.json()["error"]
    assert ("function_failed", reply.headers["x-call-id"]) == (told["code"], told["call_id"])
    assert "application/json" == reply.headers["content-type"]
    assert "Traceback" not in reply.text
    assert "too early" not in reply.text
    wait_until(lambda: "ValueError: too early" in town.log_text(told["call_id"]), "the traceback is logged")


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that_raises_after_three_events_makes_openai_raise(town: Town, name: str) -> None:
    """The three arrive, then `APIError` with the code and without the traceback."""
    said, error = ask(town, name, "late")

    assert "w0 w1 w2 " == said
    assert "function_failed" == error.code
    assert "too late" not in str(error.body)


@pytest.mark.parametrize("name", HANDLERS)
def test_a_replica_killed_after_three_events_makes_openai_raise(town: Town, name: str) -> None:
    """`kill -9` of the worker gives the same, and the next call is answered by the next replica."""
    said, error = ask(town, name, "wait", is_killed=True)

    assert "w0 w1 w2 " == said
    assert "replica_failed" == error.code
    assert "w0 w1 w2 " == ask(town, name, "late")[0]


@pytest.mark.parametrize("name", HANDLERS)
def test_exactly_one_error_ends_the_stream(town: Town, name: str) -> None:
    """Three events, one error, nothing behind it."""
    body = httpx.post(f"{town.url}/function/{name}", json={"model": "late"}, timeout=30).text

    events = [json.loads(event.removeprefix("data: ")) for event in body.split("\n\n")[:-1]]
    assert [False] * 3 + [True] == ["error" in event for event in events]
    assert "Traceback" not in body
