"""The client leaves: the handler is stopped and its model's connection closes, whatever the handler's style.

One test per row of the table in the clients' reference, section 2, with the real SDKs.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator

import pytest

from tests.kit.fake_model import Line, Model, running_model
from tests.kit.replica import Replica, Talk, boot_replica, wait_until

pytestmark = pytest.mark.slow

HEAD = """
import asyncio, gc, os, threading
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

ASK = [{"role": "user", "content": "hi"}]

def chain(model):
    return ChatPromptTemplate.from_template("{q}") | ChatOpenAI(model=model) | StrOutputParser()

def counts():
    gc.collect()
    kinds = [type(o).__name__ for o in gc.get_objects()]
    return {"fds": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "greenlets": sum(k in ("Greenlet", "greenlet", "_DummyThread") for k in kinds),
            "tasks": sum(k == "Task" for k in kinds)}
"""

SYNC = (
    HEAD
    + """
client = OpenAI()

def create(model, stream=True):
    return client.chat.completions.create(model=model, messages=ASK, stream=stream)

def plain(model):
    for chunk in create(model):
        yield chunk.choices[0].delta.content or ""

def context(model):
    with create(model) as stream:
        for chunk in stream:
            yield chunk.choices[0].delta.content or ""

def langchain(model):
    for chunk in ChatOpenAI(model=model).stream("hi"):
        yield chunk.content

def lcel(model):
    yield from chain(model).stream({"q": "hi"})

def whole(model):
    return create(model, stream=False).choices[0].message.content

def handle(event, context):
    if event.path == "/counts":
        return counts()
    return globals()[event.path.strip("/")](event.body.decode())
"""
)

ASYNC = (
    HEAD
    + """
client = AsyncOpenAI()

async def create(model, stream=True):
    return await client.chat.completions.create(model=model, messages=ASK, stream=stream)

async def plain(model):
    async for chunk in await create(model):
        yield chunk.choices[0].delta.content or ""

async def context(model):
    async with await create(model) as stream:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""

async def langchain(model):
    async for chunk in ChatOpenAI(model=model).astream("hi"):
        yield chunk.content

async def lcel(model):
    async for chunk in chain(model).astream({"q": "hi"}):
        yield chunk

async def whole(model):
    yield (await create(model, stream=False)).choices[0].message.content

async def handle(event, context):
    if event.path == "/counts":
        yield counts()
        return
    async for item in globals()[event.path.strip("/")](event.body.decode()):
        yield item
"""
)

STREAMS = ["plain", "context", "langchain", "lcel"]
# When the client leaves: before the first token, between tokens in a read that waits, and mid-stream.
MOMENTS = {"before": "first=60", "blocked": "gap=60", "midstream": "gap=0.02,count=500"}
CASES = [(style, moment) for style in STREAMS for moment in MOMENTS] + [("whole", "before")]
MANNERS = ["greenlets", "async"]
# A read that waits with a thread cannot be interrupted: there the next bytes must come soon.
THREAD_MOMENTS = {"before": "first=0.15", "blocked": "gap=0.15", "midstream": "gap=0.02,count=500"}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with running_model() as model:
        yield model


def env(model: Model) -> dict[str, str]:
    return {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "key", "OPENAI_API_BASE": model.url}


@pytest.fixture(scope="module")
def replicas(model: Model) -> Iterator[dict[str, Replica]]:
    with (
        boot_replica(SYNC, env=env(model)) as greenlets,
        boot_replica(ASYNC, env=env(model)) as asynchronous,
        boot_replica(SYNC, env=env(model), worker="threads") as threads,
    ):
        assert {"loaded"} == {r.wait_first()["type"] for r in (greenlets, asynchronous, threads)}
        yield {"greenlets": greenlets, "async": asynchronous, "threads": threads}


def begin(replica: Replica, model: Model, style: str, plan: str, *, tokens: int) -> tuple[Talk, Line]:
    """A call that has got this many tokens, and its connection to the model."""
    number = len(model.lines)
    talk = replica.talk()
    talk.send("POST", f"/{style}", plan.encode())
    line = model.wait_line(number)
    while tokens:
        data = talk.read_head() if tokens == 2 else talk.read_data()
        tokens -= 1
        assert data is not None
    return talk, line


def leave(talk: Talk, line: Line, limit_s: float) -> float:
    """Close the client's connection; seconds until the model's is closed."""
    left_at = time.monotonic()
    talk.close()
    assert line.closed.wait(limit_s + 5), "the model was never told"
    return line.closed_at - left_at


def counts(replica: Replica) -> dict[str, int]:
    found = re.match(r"data: (.*)\n", replica.ask("GET", "/counts").text)
    assert found is not None
    loaded: dict[str, int] = json.loads(found[1])
    return loaded


def settled(replica: Replica) -> dict[str, int]:
    """The counts once two looks in a row agree: the end of a call may be on its way."""
    last = counts(replica)
    while (now := counts(replica)) != last:
        last = now
    return now


def grown(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """What there is more of than before. asyncio's own pool (name look-ups) may fill up to its bound."""
    pool = (os.cpu_count() or 1) + 4
    allowed = {**before, "threads": max(before["threads"], 1 + pool)}
    return {kind: count for kind, count in now.items() if count > allowed[kind]}


@pytest.mark.parametrize(("style", "moment"), CASES)
@pytest.mark.parametrize("manner", MANNERS)
def test_the_models_connection_closes_within_100_ms(
    replicas: dict[str, Replica], model: Model, manner: str, style: str, moment: str
) -> None:
    """Every style, at every moment, also while the handler is blocked in a read."""
    tokens = 0 if moment == "before" else 2
    talk, line = begin(replicas[manner], model, style, MOMENTS[moment], tokens=tokens)

    took_s = leave(talk, line, 0.1)

    assert took_s < 0.1
    assert not line.completed
    assert "" == replicas[manner].logs()


@pytest.mark.parametrize(("style", "moment"), CASES)
def test_a_thread_is_stopped_with_its_next_bytes(
    replicas: dict[str, Replica], model: Model, style: str, moment: str
) -> None:
    """A thread cannot be killed, but it is interrupted as soon as its model says anything."""
    tokens = 0 if moment == "before" else 2
    talk, line = begin(replicas["threads"], model, style, THREAD_MOMENTS[moment], tokens=tokens)

    took_s = leave(talk, line, 0.3)

    assert took_s < 0.3
    assert not line.completed or style == "whole"
    assert "" == replicas["threads"].logs()


@pytest.mark.parametrize("style", STREAMS)
@pytest.mark.parametrize("manner", [*MANNERS, "threads"])
def test_a_client_that_stopped_reading_and_leaves_is_noticed(
    replicas: dict[str, Replica], model: Model, manner: str, style: str
) -> None:
    """The generator sits at its yield then, with chunks of a fast model waiting in its socket."""
    talk, line = begin(replicas[manner], model, style, "gap=0,count=100000", tokens=0)
    talk.read_head()
    wait_until(lambda: is_still(line), 20)

    took_s = leave(talk, line, 2)

    assert took_s < 2
    assert not line.completed


def is_still(line: Line) -> bool:
    """Whether the model sends no more: every buffer up to the client is full."""
    before = line.sent
    time.sleep(0.02)
    return before == line.sent > 0


@pytest.mark.parametrize("manner", MANNERS)
def test_300_disconnects_leave_nothing_behind(
    replicas: dict[str, Replica], model: Model, manner: str
) -> None:
    """Sockets, threads, greenlets and tasks are as many as before, and the model has no open connection."""
    replica = replicas[manner]
    for style in STREAMS:  # warm: what the SDKs open once stays
        leave(*begin(replica, model, style, MOMENTS["midstream"], tokens=2), 0.3)
    before = settled(replica)

    for number in range(300):
        style = STREAMS[number % 4]
        moment = ("before", "blocked", "midstream")[number % 3]
        tokens = 0 if moment == "before" else 2
        leave(*begin(replica, model, style, MOMENTS[moment], tokens=tokens), 0.3)

    wait_until(lambda: not grown(before, counts(replica)), 10)
    assert "" == replica.logs()


def test_the_next_call_is_served_as_if_nothing_happened(replicas: dict[str, Replica], model: Model) -> None:
    """After all those kills a whole answer still comes whole."""
    for replica in replicas.values():
        answer = replica.ask("POST", "/lcel", b"gap=0,count=3")

        assert b"data: w0 \n\ndata: w1 \n\ndata: w2 \n\n" in answer.body
        assert answer.is_whole
