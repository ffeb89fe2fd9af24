"""Tailrace's own clients as one: Python that awaits, Python that blocks, JavaScript in Node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tailrace.client import Resume, Stream, attach, stream, sync
from tailrace.errors import CallRefused, RunFailed, TailraceError
from tests.kit.clients import built_client, run_node
from tests.kit.gateway import Town

ClientName = Literal["async", "sync", "node"]
CLIENTS: tuple[ClientName, ...] = ("async", "sync", "node")

# Tells numbers at a pace, in the native dialect. `fail`: raise before this number.
TELLER = """
import asyncio, json

async def handle(event, context):
    asked = json.loads(event.body)
    print("started", flush=True)
    for number in range(asked["count"]):
        if number == asked.get("fail"):
            raise RuntimeError("as it was told to")
        yield f"{number} of it\\nü {number}"
        await asyncio.sleep(asked.get("gap_s", 0))
"""
# The same as an OpenAI-compatible server tells it: no ids, its own end.
OPENAI = """
import json, time
from flask import Response

def handle(req):
    asked = json.loads(req)
    print("started", flush=True)
    def chunks():
        for number in range(asked["count"]):
            delta = {"choices": [{"index": 0, "delta": {"content": f"{number} "}}]}
            chunk = {"object": "chat.completion.chunk", **delta}
            yield f"data: {json.dumps(chunk, separators=(',', ':'))}\\n\\n"
            time.sleep(asked.get("gap_s", 0))
        yield "data: [DONE]\\n\\n"
    return Response(chunks(), mimetype="text/event-stream")
"""


def told(count: int) -> list[str]:
    """The data of the teller's events."""
    return [f"{number} of it\nü {number}" for number in range(count)]


def starts(town: Town) -> int:
    """How often a handler was begun, of all functions of the town."""
    return town.log_text().count("started")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a client is asked to read.

    Attributes:
        url: Of a function; or, with ``run``, of the gateway.
        run: Attach to this run, after the event ``after``.
        stop_at: Stop the run after so many events; -1: never.
        leave_at: Leave it then.
    """

    url: str
    body: str = ""
    run: str = ""
    after: str = "0"
    attempts: int = 12
    silence_s: float = 45.0
    key: str = ""
    on_disconnect: str = ""
    is_resumed: bool = True
    stop_at: int = -1
    leave_at: int = -1


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        error: Its class, and what it names: the reason of a failed run, or a status.
    """

    data: list[str] = field(default_factory=list)
    run: str = ""
    error: tuple[str, str] = ("", "")
    stopped: str = ""


def read(client: ClientName, reading: Reading) -> Outcome:
    """Read with one of the clients until the end."""
    if client == "async":
        return asyncio.run(_read_async(reading))
    return _read_sync(reading) if client == "sync" else _read_node(reading)


def _resume(reading: Reading) -> Resume | None:
    if not reading.is_resumed:
        return None
    return Resume(reading.attempts, reading.silence_s, reading.key, reading.on_disconnect)


async def _read_async(reading: Reading) -> Outcome:
    outcome, resume = Outcome(), _resume(reading)
    if reading.run:
        opened = attach(reading.run, gateway=reading.url, after=reading.after, resume=resume or Resume())
    else:
        opened = stream(reading.url, body=reading.body, resume=resume)
    try:
        async with opened as answer:
            await _take(answer, reading, outcome)
    except TailraceError as error:
        outcome.error = _named(error)
    return outcome


async def _take(answer: Stream, reading: Reading, outcome: Outcome) -> None:
    try:
        async for event in answer:
            outcome.data.append(event.data)
            if len(outcome.data) == reading.stop_at:
                outcome.stopped = (await answer.stop()).state
            if len(outcome.data) == reading.leave_at:
                return
    finally:
        outcome.run = answer.run


def _read_sync(reading: Reading) -> Outcome:
    outcome, resume = Outcome(), _resume(reading)
    if reading.run:
        opened = sync.attach(reading.run, gateway=reading.url, after=reading.after, resume=resume or Resume())
    else:
        opened = sync.stream(reading.url, body=reading.body, resume=resume)
    try:
        with opened as answer:
            _take_sync(answer, reading, outcome)
    except TailraceError as error:
        outcome.error = _named(error)
    return outcome


def _take_sync(answer: sync.Stream, reading: Reading, outcome: Outcome) -> None:
    try:
        for event in answer:
            outcome.data.append(event.data)
            if len(outcome.data) == reading.stop_at:
                outcome.stopped = answer.stop().state
            if len(outcome.data) == reading.leave_at:
                return
    finally:
        outcome.run = answer.run


def _named(error: TailraceError) -> tuple[str, str]:
    if isinstance(error, RunFailed):
        return "RunFailed", error.reason
    if isinstance(error, CallRefused):
        return "CallRefused", str(error.status)
    return type(error).__name__, ""


def _read_node(reading: Reading) -> Outcome:
    job: dict[str, object] = {
        "url": reading.url, "run": reading.run, "stopAt": reading.stop_at, "leaveAt": reading.leave_at,
        "options": _node_options(reading),
    }  # fmt: skip
    built_client()
    found: Mapping[str, Mapping[str, object]] = run_node("resume.mjs", job={"one": job})
    one = found["one"]
    data, error = one["data"], one["error"]
    assert isinstance(data, list)
    assert isinstance(error, list)
    name = "CallRefused" if error[0] == "HttpError" else str(error[0])
    return Outcome(data, str(one["run"]), (name, str(error[1])), str(one["stopped"]))


def _node_options(reading: Reading) -> dict[str, object]:
    options: dict[str, object] = {"attempts": reading.attempts, "silenceMs": reading.silence_s * 1000}
    if reading.run:
        return options | {"gateway": reading.url, "after": reading.after}
    options |= {"resume": reading.is_resumed}
    options |= {"body": reading.body} if reading.body else {}
    options |= {"key": reading.key} if reading.key else {}
    return options | ({"onDisconnect": reading.on_disconnect} if reading.on_disconnect else {})
