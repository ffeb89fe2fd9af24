"""Any text survives our encoders and other people's parsers, wherever the bytes are cut."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from itertools import pairwise

import httpx
import httpx_sse
import pytest
from openai._streaming import SSEDecoder  # its decoder, fed without a connection for each of many cuts

from tailrace.wire import sse as wire
from tailrace_runtime import sse as runtime
from tests.kit.clients import Reading, read_in_browser, run_node
from tests.kit.scripted import Script, scripted_server

pytestmark = pytest.mark.slow

# What framings trip over: line ends of every kind (and what Python's splitlines takes for some), fields,
# blanks, a byte order mark, NUL, quotes, and characters of two, three and four bytes.
PARTS = (
    "\n", "\n\n", "\r", "\r\n", "\n\r", " ", "  ", "\t", ":", "data:", "data: ", "id: 1", "event: x",
    "retry: 1", "[DONE]", "\ufeff", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\0", "\x7f",
    '"', "\\", "{}", "a", "\u00e9", "\u5b57", "\U0001f642", "\U0001f468\u200d\U0001f469",
)  # fmt: skip
COUNT = 40


def _texts() -> list[str]:
    """The first are the shortest that matter."""
    choose = random.Random(21)  # the same choices in every run
    some = ["".join(choose.choices(PARTS, k=choose.randrange(9))) for _ in range(COUNT)]
    return ["", " ", "\n", "\n\nx", ":", *some]


TEXTS = _texts()
# The format has only one line end.
RECEIVED = [text.replace("\r\n", "\n").replace("\r", "\n") for text in TEXTS]

ENCODERS: dict[str, Callable[[str], bytes]] = {
    "text": runtime.encode_text,
    "event": lambda text: runtime.encode_event(runtime.Event(text, id="r-7")),
    "wire": lambda text: wire.encode_event(wire.ServerEvent(text, id="r-7")),
    "json": lambda text: runtime.encode_json({"text": text}),
}
STREAMS = {name: b"".join(map(encode, TEXTS)) for name, encode in ENCODERS.items()}


def _received(name: str, data: list[str]) -> list[str]:
    """The texts in the data of a stream's events."""
    return [json.loads(one)["text"] for one in data] if name == "json" else data


# JSON carries its line ends as they are.
EXPECTED = {name: TEXTS if name == "json" else RECEIVED for name in STREAMS}


def _bytewise(stream: bytes) -> Script:
    """The stream with every byte in a write of its own."""
    return Script(tuple(stream[at : at + 1] for at in range(len(stream))), pause_s=0.0003)


def _in_halves(stream: bytes) -> list[list[bytes]]:
    return [[stream[:at], stream[at:]] for at in range(1, len(stream))]


@pytest.mark.parametrize("name", STREAMS)
def test_openais_decoder_recovers_it(name: str) -> None:
    """Byte by byte, and each event with the next cut in two at every place."""

    def read(pieces: list[bytes]) -> list[str]:
        return _received(name, [event.data for event in SSEDecoder().iter_bytes(iter(pieces))])

    encode, stream = ENCODERS[name], STREAMS[name]

    assert EXPECTED[name] == read([stream[at : at + 1] for at in range(len(stream))])
    for pair, expected in zip(pairwise(TEXTS), pairwise(EXPECTED[name]), strict=True):
        for pieces in _in_halves(b"".join(map(encode, pair))):
            assert list(expected) == read(pieces), pieces


def test_eventsource_parser_recovers_it() -> None:
    """Whole, and cut in two at every byte."""
    job = {name: base64.b64encode(stream).decode() for name, stream in STREAMS.items()}

    outcomes = run_node("pieces.mjs", job=job)

    assert EXPECTED == {name: _received(name, _list(outcomes[name])) for name in STREAMS}


@pytest.fixture(scope="module")
def in_chromium() -> dict[str, list[str]]:
    """The data of each stream's events in Chromium, read by its own EventSource and by fetch-event-source."""
    scripts = {f"{name}-bytes": _bytewise(stream) for name, stream in STREAMS.items()}
    scripts |= {f"{name}-whole": Script((stream,)) for name, stream in STREAMS.items()}
    with scripted_server(scripts) as server:
        readings = {name: Reading("eventsource", server.url_of(name)) for name in scripts}
        readings |= {
            f"fetched-{name}": Reading("fetched", server.url_of(f"{name}-bytes")) for name in STREAMS
        }
        outcomes = read_in_browser(server, readings)
    return {name: [event[1] for event in _list(told["events"])] for name, told in outcomes.items()}


@pytest.mark.parametrize("cut", ["bytes", "whole"])
def test_chromium_recovers_it(in_chromium: dict[str, list[str]], cut: str) -> None:
    """Its EventSource, with every byte in a write of its own, and with all in one."""
    assert EXPECTED == {name: _received(name, in_chromium[f"{name}-{cut}"]) for name in STREAMS}


def test_fetch_event_source_recovers_json(in_chromium: dict[str, list[str]]) -> None:
    """With every byte in a write of its own."""
    assert TEXTS == _received("json", in_chromium["fetched-json"])


def test_fetch_event_source_loses_the_first_line_ends_of_plain_text(
    in_chromium: dict[str, list[str]],
) -> None:
    """And a byte order mark at the start of a line; nothing else, however the bytes are cut."""

    def left(text: str) -> str:
        lines = [line.removeprefix("\ufeff") for line in text.split("\n")]
        return "\n".join(lines).lstrip("\n")

    expected = [left(text) for text in RECEIVED]

    assert expected == in_chromium["fetched-text"] == in_chromium["fetched-event"]


@pytest.mark.parametrize("name", STREAMS)
def test_httpx_sse_recovers_it(name: str) -> None:
    """Byte by byte, line ends of Unicode and all."""
    with (
        scripted_server({"s": _bytewise(STREAMS[name])}) as server,
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "GET", server.url_of("s")) as source,
    ):
        data = [event.data for event in source.iter_sse()]

    assert EXPECTED[name] == _received(name, data)


def _list(value: object) -> list[str]:
    assert isinstance(value, list), value
    return value
