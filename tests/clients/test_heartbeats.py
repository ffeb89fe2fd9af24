"""Which form of a heartbeat harms whom: why `wire.dialects.heartbeat` has two.

The harm is another project's, so a test that fails here after an upgrade may be good news: see whether
the two forms can become one, and say so in docs/explanation/clients.md.
"""

from __future__ import annotations

import httpx
import httpx_sse
import openai
import pytest

from tailrace.wire.dialects import heartbeat
from tests.kit.scripted import Script, scripted_server
from tests.kit.streams import BLANK, KINDS, SINGLE, TEXT, TEXTS, Kind

pytestmark = pytest.mark.slow


def _with_heartbeat(kind: Kind, form: bytes) -> Script:
    body = [block for block, _ in kind.body]
    return Script((*body[:2], form, *body[2:], *(block for block, _ in kind.close)))


def test_the_gateway_sends_the_form_that_fits_the_stream() -> None:
    """With an empty line, as everybody does; without one where ids make that an event for some."""
    assert (BLANK, SINGLE) == (heartbeat(carries_ids=False), heartbeat(carries_ids=True))


@pytest.mark.parametrize(
    ("kind", "form", "is_read"),
    [
        ("openai", BLANK, True),
        ("openai", SINGLE, True),
        ("openai-ids", SINGLE, True),
        ("openai-ids", BLANK, False),
    ],
)
def test_openai_fails_at_an_empty_line_after_an_id(kind: str, form: bytes, is_read: bool) -> None:
    """Its decoder keeps the last id, so the empty line makes an event whose empty data is no JSON."""
    said, failed = "", ""

    with (
        scripted_server({"s": _with_heartbeat(KINDS[kind], form)}) as server,
        openai.OpenAI(api_key="any", base_url=server.url_of("s"), max_retries=0) as client,
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        ) as chunks,
    ):
        try:
            for chunk in chunks:
                said += chunk.choices[0].delta.content or ""
        except ValueError as error:
            failed = type(error).__name__

    assert (TEXT, "") if is_read else ("".join(TEXTS[:2]), "JSONDecodeError") == (said, failed)


@pytest.mark.parametrize(
    ("kind", "form", "extra"),
    [("native", BLANK, 0), ("native", SINGLE, 0), ("native-ids", SINGLE, 0), ("native-ids", BLANK, 1)],
)
def test_httpx_sse_makes_an_event_of_an_empty_line_after_an_id(kind: str, form: bytes, extra: int) -> None:
    """One of no data, which an application that reads JSON fails at as the SDK does."""
    with (
        scripted_server({"s": _with_heartbeat(KINDS[kind], form)}) as server,
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "GET", server.url_of("s")) as source,
    ):
        data = [event.data for event in source.iter_sse()]

    assert [*TEXTS[:2], *[""] * extra, *TEXTS[2:], "{}"] == data


def test_a_reader_that_cuts_at_empty_lines_needs_the_empty_line() -> None:
    """Many a hand-written one takes a block for an event if it begins with `data:`; ids it cannot read."""

    def read(script: Script) -> list[str]:
        blocks = b"".join(script.pieces).decode().split("\n\n")
        return [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]

    openai_kind = KINDS["openai"]
    every = [seen.data for _, seen in (*openai_kind.body, *openai_kind.close)]

    assert every == read(_with_heartbeat(openai_kind, BLANK))
    assert [*every[:2], *every[3:]] == read(_with_heartbeat(openai_kind, SINGLE))
    assert [] == read(_with_heartbeat(KINDS["openai-ids"], SINGLE))
