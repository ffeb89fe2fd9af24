"""After a head that was sent early: who gets one, and what each client makes of a failure told after it.

By then the status is 200 and no dialect is known, so one frame must serve every client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import httpx
import httpx_sse
import openai
import pytest

from tailrace.wire.dialects import failure_frames, heartbeat, status_frame
from tests.kit.clients import Outcome, Reading, read_in_browser, read_in_node
from tests.kit.scripted import Script, ScriptedServer, scripted_server
from tests.kit.streams import KINDS

pytestmark = pytest.mark.slow

CODE, MESSAGE, CALL = "error_function", "the handler raised an exception", "c4llc4ll"
FAILURE = failure_frames(None, CODE, MESSAGE, CALL)
TOLD = FAILURE.decode().split("\n")[1].removeprefix("data: ")
SCRIPT = Script((heartbeat(carries_ids=False), FAILURE))

EVENT_STREAM, JSON, ANYTHING = "text/event-stream", "application/json", "*/*"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """Serves the failure under one name for each client, so that its request can be told from others."""
    names = (
        "openai",
        "anthropic",
        "ai",
        "parser",
        "eventsource",
        "chromium",
        "fetched",
        "httpx-sse",
        "python",
    )
    with scripted_server(dict.fromkeys(names, SCRIPT)) as running:
        yield running


@pytest.fixture(scope="module")
def told(server: ScriptedServer) -> Mapping[str, Outcome]:
    """What each JavaScript client makes of the failure."""
    scripts = server.scripts
    outcomes: dict[str, Outcome] = {}
    for client in ("openai", "anthropic", "ai", "parser", "eventsource"):
        server.scripts = {client: SCRIPT}
        outcomes |= read_in_node(client, server)
    server.scripts = scripts
    readings = {
        "chromium": Reading("eventsource", server.url_of("chromium")),
        "fetched": Reading("fetched", server.url_of("fetched")),
    }
    return outcomes | read_in_browser(server, readings)


def test_the_sdks_fail_with_our_message(told: Mapping[str, Outcome]) -> None:
    """APIError of OpenAI and Anthropic, onError of the AI SDK: with words that say what happened."""
    errors = {name: told[name]["error"] for name in ("openai", "anthropic", "ai")}

    assert {
        "openai": {"isApiError": True, "name": "APIError", "message": MESSAGE, "code": CODE},
        "anthropic": {"isApiError": True, "name": "APIError", "message": MESSAGE},
        "ai": {"name": "Error", "message": f"{MESSAGE} (call {CALL})"},
    } == errors


def test_readers_of_events_get_it_as_an_event_named_error(told: Mapping[str, Outcome]) -> None:
    """With code, message and call id on top; then `end`, so that a page knows not to come back."""
    both = [["error", TOLD], ["end", "{}"]]

    assert (CODE, MESSAGE, CALL) == tuple(json.loads(TOLD)[key] for key in ("code", "message", "call_id"))
    assert {"parser": both, "eventsource": both, "chromium": both} == {
        name: told[name]["events"] for name in ("parser", "eventsource", "chromium")
    }
    # It takes the heartbeat's empty line for a message.
    assert [["message", ""], *both] == told["fetched"]["events"]


def test_openai_for_python_raises_api_error(server: ScriptedServer) -> None:
    """It does not look at the event's name: without `error` in the data it would see an empty chunk."""
    error = _failure_in_openai(server)

    assert (MESSAGE, CODE) == (error.message, error.code)


def _failure_in_openai(server: ScriptedServer) -> openai.APIError:
    with (
        openai.OpenAI(api_key="any", base_url=server.url_of("python"), max_retries=0) as client,
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        ) as chunks,
        pytest.raises(openai.APIError) as failed,
    ):
        list(chunks)
    return failed.value


def test_httpx_sse_gets_both_events(server: ScriptedServer) -> None:
    """It is for the application to look at the event's name."""
    assert [("error", TOLD), ("end", "{}")] == _events_in_httpx_sse(server)


def _events_in_httpx_sse(server: ScriptedServer) -> list[tuple[str, str]]:
    with (
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "GET", server.url_of("httpx-sse")) as source,
    ):
        return [(event.event, event.data) for event in source.iter_sse()]


def test_only_readers_of_event_streams_ask_for_one(
    server: ScriptedServer, told: Mapping[str, Outcome]
) -> None:
    """The SDKs and plain fetch do not, so their calls keep real statuses unless the function says else."""
    accepted = {name: server.of(name)[-1].headers["accept"] for name in told}

    assert {
        "openai": JSON, "anthropic": JSON, "ai": ANYTHING, "parser": ANYTHING,
        "eventsource": EVENT_STREAM, "chromium": EVENT_STREAM, "fetched": EVENT_STREAM,
    } == accepted  # fmt: skip


def test_in_python_httpx_sse_asks_for_one_and_openai_does_not(server: ScriptedServer) -> None:
    """The same of the two Python clients."""
    _failure_in_openai(server)
    _events_in_httpx_sse(server)

    accepted = [server.of(name)[-1].headers["accept"] for name in ("python", "httpx-sse")]

    assert [JSON, EVENT_STREAM] == accepted


def test_a_status_event_is_for_readers_of_events_only() -> None:
    """The SDKs take its data for a chunk and fail, so it is sent only where a function asks for it."""
    body = [block for block, _ in KINDS["openai"].body]

    with scripted_server({"waits": Script((status_frame("queued"), *body))}) as running:
        outcomes = {name: read_in_node(name, running)["waits"] for name in ("openai", "ai", "parser")}

    seen = [["status", '{"state":"queued"}'], *(["message", seen.data] for _, seen in KINDS["openai"].body)]
    assert {"events": seen, "error": None} == outcomes["parser"]
    assert [] == [name for name in ("openai", "ai") if outcomes[name]["error"] is None]
