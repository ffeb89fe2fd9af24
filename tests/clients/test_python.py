"""The streams in Python: the OpenAI SDK, blocking and async, and httpx-sse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx_sse
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.kit import streams
from tests.kit.scripted import ScriptedServer, scripted_server
from tests.kit.streams import TEXT, Case

pytestmark = pytest.mark.slow

MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]
OPENAI = ("openai", "openai-ids")
# Of the exceptions only what an application looks at: class, text, code.
Told = tuple[str, str, str | None]


def _told(error: Exception) -> Told:
    return type(error).__name__, str(error), getattr(error, "code", None)


def _read_all(server: ScriptedServer, read: Callable[[str], object]) -> dict[str, object]:
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(server.scripts, pool.map(read, map(server.url_of, server.scripts)), strict=True))


def _openai_outcome(case: Case) -> object:
    failed = ("APIError", streams.FAILURE["message"], streams.FAILURE["code"])
    cut = ("APIConnectionError", "Connection error.", None)
    return TEXT, {"clean": None, "failure": failed, "cut": cut}[case.end]


def test_openai_reads_every_stream_and_raises_api_error_from_the_failure_frame() -> None:
    """All text in every case; a failure is an APIError with our words, a cut an APIConnectionError."""
    cases = streams.cases(*OPENAI)

    with scripted_server(streams.scripts(cases)) as server, openai.OpenAI(api_key="any") as client:
        outcomes = _read_all(server, lambda url: _openai(client, url))

    assert streams.expected(cases, _openai_outcome) == outcomes


def _openai(client: openai.OpenAI, url: str) -> tuple[str, Told | None]:
    said, client = "", client.with_options(base_url=url, max_retries=0)
    try:
        with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as chunks:
            for chunk in chunks:
                said += chunk.choices[0].delta.content or ""
    except Exception as error:
        return said, _told(error)
    return said, None


def test_async_openai_reads_the_same() -> None:
    """AsyncOpenAI has a decoder of its own for bytes that arrive asynchronously."""
    cases = streams.cases(*OPENAI)

    with scripted_server(streams.scripts(cases)) as server:
        outcomes = asyncio.run(_async_openai(server))

    assert streams.expected(cases, _openai_outcome) == outcomes


async def _async_openai(server: ScriptedServer) -> dict[str, object]:
    at_once = asyncio.Semaphore(16)

    async def read(client: openai.AsyncOpenAI) -> object:
        said = ""
        try:
            async with (
                at_once,
                await client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as chunks,
            ):
                async for chunk in chunks:
                    said += chunk.choices[0].delta.content or ""
        except Exception as error:
            return said, _told(error)
        return said, None

    async with openai.AsyncOpenAI(api_key="any", max_retries=0) as client:
        urls = map(server.url_of, server.scripts)
        told = await asyncio.gather(*(read(client.with_options(base_url=url)) for url in urls))
    return dict(zip(server.scripts, told, strict=True))


def test_httpx_sse_reads_every_stream() -> None:
    """Exactly the events that were sent; a cut is a RemoteProtocolError of httpx."""

    def outcome(case: Case) -> object:
        events = [(seen.event, seen.data) for seen in case.seen]
        return events, "RemoteProtocolError" if case.end == "cut" else None

    cases = streams.cases()

    with scripted_server(streams.scripts(cases)) as server, httpx.Client() as client:
        outcomes = _read_all(server, lambda url: _httpx_sse(client, url))

    assert streams.expected(cases, outcome) == outcomes


def _httpx_sse(client: httpx.Client, url: str) -> tuple[list[tuple[str, str]], str | None]:
    events: list[tuple[str, str]] = []
    try:
        with httpx_sse.connect_sse(client, "GET", url) as source:
            events.extend((event.event, event.data) for event in source.iter_sse())
    except httpx.HTTPError as error:
        return events, type(error).__name__
    return events, None
