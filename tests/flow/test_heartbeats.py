"""Behaviour 8: heartbeats from acceptance on carry a silent call through a proxy, in a form clients survive.

Scaled by 40: a cold start of 20 s, a handler silent for 150 s, nginx's read timeout of 60 s, and ours.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import httpx_sse
import openai
import pytest

from tests.kit.clients import run_node
from tests.kit.gateway import running_town
from tests.kit.nginx import stock_nginx
from tests.kit.patience import wait_until

pytestmark = pytest.mark.slow

SCALE = 40
SILENT_S = 150 / SCALE
FLAGS = {"early_head_s": 5 / SCALE, "heartbeat_s": 15 / SCALE}
NGINX = f"proxy_read_timeout {60_000 // SCALE}ms;"
# What a function says: two words after its silence, and the rest after one that nginx would not stand either.
WORDS = ("Hel", "lo ", "wor", "ld")

CHAT = """
import json, time
from flask import Response
time.sleep(SLOW)

def handle(req):
    def tell():
        time.sleep(SILENT)
        for n, word in enumerate(WORDS):
            chunk = {"object": "chat.completion.chunk", "id": "c", "created": 1, "model": "m"}
            chunk["choices"] = [{"index": 0, "finish_reason": None, "delta": {"content": word}}]
            yield (f"id: {n}\\n" if HAS_IDS else "") + f"data: {json.dumps(chunk)}\\n\\n"
            time.sleep(SILENT / 2 if n == 1 else 0)
        yield "data: [DONE]\\n\\n"
    return Response(tell(), mimetype="text/event-stream")
"""
NATIVE = """
import asyncio, time
time.sleep(SLOW)

async def handle(event, context):
    await asyncio.sleep(SILENT)
    for n, word in enumerate(WORDS):
        yield word
        await asyncio.sleep(SILENT / 2 if n == 1 else 0)
"""
FACTS = f"SLOW, SILENT, WORDS = {20 / SCALE}, {SILENT_S}, {WORDS}\n"
EARLY = {"com.tailrace.stream.early-head": "on"}
FUNCTIONS = {
    "chat": (FACTS + "HAS_IDS = False" + CHAT, "python3-flask", EARLY),
    "chat-ids": (FACTS + "HAS_IDS = True" + CHAT, "python3-flask", EARLY),
    "native": (FACTS + NATIVE, "python3-stream", EARLY),
    "no-beats": (FACTS + NATIVE, "python3-stream", EARLY | {"com.tailrace.stream.heartbeat": "off"}),
    "no-head": (FACTS + NATIVE, "python3-stream", {"com.tailrace.stream.early-head": "off"}),
}
NODE = {"openai": ("chat", "chat-ids"), "parser": ("native",), "eventsource": ("native",)}


Calls = Mapping[str, Future[object]]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Every client's call through nginx, made while no replica was there; those in Node a bit later."""
    with (
        running_town(tmp_path_factory.mktemp("town"), flags=FLAGS) as town,
        stock_nginx(tmp_path_factory.mktemp("nginx"), town.url, more=NGINX) as url,
        ThreadPoolExecutor(16) as pool,
    ):
        for name, (source, lang, wishes) in FUNCTIONS.items():
            town.deploy(
                name, source, lang=lang, env={"exec_timeout": "0"}, annotations=wishes, is_waiting=False
            )
        begun: dict[str, Future[object]] = {}
        for name in ("chat", "chat-ids"):
            begun[f"openai {name}"] = pool.submit(said_to_openai, f"{url}/function/{name}")
        for name in ("chat", "chat-ids", "no-beats", "no-head"):
            begun[f"raw {name}"] = pool.submit(raw_of, f"{url}/function/{name}")
        begun["httpx-sse"] = pool.submit(events_in_httpx_sse, f"{url}/function/native")
        assert not any(function.ready for function in town.gateway.table), "they call before it is there"
        wait_until(lambda: all(function.ready for function in town.gateway.table), "all are ready", 60)
        for client, names in NODE.items():
            job = {"streams": {name: f"{url}/function/{name}" for name in names}}
            begun[client] = pool.submit(run_node, "read.mjs", client, job=job)
        yield begun


def said_to_openai(url: str) -> str:
    """The text that openai's client reads."""
    with (
        openai.OpenAI(base_url=url, api_key="x", max_retries=0, timeout=60) as client,
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        ) as chunks,
    ):
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def events_in_httpx_sse(url: str) -> list[tuple[str, str]]:
    """The events, by name and data."""
    with httpx.Client(timeout=60) as client, httpx_sse.connect_sse(client, "GET", url) as source:
        return [(event.event, event.data) for event in source.iter_sse()]


def raw_of(url: str) -> tuple[int, str]:
    """The status, and the body as far as it came."""
    text = ""
    with httpx.stream("GET", url, timeout=60) as reply:
        with contextlib.suppress(httpx.RemoteProtocolError):
            for piece in reply.iter_text():
                text += piece
        return reply.status_code, text


def of(calls: Calls, name: str) -> object:
    """What a client made of its call; raises what it raised."""
    return calls[name].result(60)


def bytes_of(calls: Calls, name: str) -> tuple[int, str]:
    """The status, and the body as far as it came."""
    found = of(calls, f"raw {name}")
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("name", ["chat", "chat-ids"])
def test_openai_reads_a_call_that_is_silent_for_longer_than_the_proxy_waits(calls: Calls, name: str) -> None:
    """Through the cold start, before the first token, between tokens; with ids and without."""
    assert "".join(WORDS) == of(calls, f"openai {name}")


def test_httpx_sse_reads_it_too(calls: Calls) -> None:
    """Every event and nothing else."""
    assert [*(("message", word) for word in WORDS), ("end", "{}")] == of(calls, "httpx-sse")


def test_openai_for_node_reads_it(calls: Calls) -> None:
    """With ids and without."""
    good = {"text": "".join(WORDS), "chunks": len(WORDS), "error": None}

    assert {"chat": good, "chat-ids": good} == of(calls, "openai")


def test_parsers_of_event_streams_read_it(calls: Calls) -> None:
    """eventsource-parser, and the eventsource package, which ends at `end`."""
    events = [*(["message", word] for word in WORDS), ["end", "{}"]]

    told = of(calls, "parser"), of(calls, "eventsource")

    assert {"native": {"events": events, "error": None}} == told[0]
    assert isinstance(told[1], dict)
    assert (events, "end") == (told[1]["native"]["events"], told[1]["native"]["ended"])


def test_a_heartbeat_has_an_empty_line_until_an_id_came(calls: Calls) -> None:
    """Then it is a line of its own before the next event, for openai's sake."""
    plain, ids = bytes_of(calls, "chat")[1], bytes_of(calls, "chat-ids")[1]

    event, first, later = r"data: .*\n\n", r"(: ping\n\n)", r"(: ping\n)"
    assert re.fullmatch(f"{first}+({event}){{2}}{first}+({event}){{3}}", plain)
    assert re.fullmatch(
        f"{first}+(id: 0\n{event}id: 1\n{event}){later}+(id: 2\n{event}id: 3\n{event}){event}", ids
    )
    assert min(plain.count(": ping"), ids.count(": ping")) >= 1.3 * SILENT_S / FLAGS["heartbeat_s"]


def test_without_an_early_head_the_proxy_gives_up(calls: Calls) -> None:
    """What the head is for: nginx answers 504 itself."""
    assert 504 == bytes_of(calls, "no-head")[0]


def test_without_heartbeats_the_proxy_cuts_the_stream(calls: Calls) -> None:
    """What heartbeats are for: the head went out, and nginx closed before the first event."""
    assert (200, "") == bytes_of(calls, "no-beats")
