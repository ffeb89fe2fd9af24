"""The streams in JavaScript: OpenAI's and Anthropic's SDKs, the AI SDK, eventsource-parser, eventsource."""

from __future__ import annotations

import pytest

from tests.kit import streams
from tests.kit.clients import read_in_node
from tests.kit.scripted import scripted_server
from tests.kit.streams import TEXT, Case

pytestmark = pytest.mark.slow

MESSAGE = streams.FAILURE["message"]
# What Node's fetch says of a body that ended before its last chunk.
CUT = "terminated"
OPENAI = ("openai", "openai-ids")
ANTHROPIC = ("passthrough", "passthrough-ids")
AI_SDK = ("ai-sdk", "ai-sdk-ids")


def _read(client: str, cases: dict[str, Case], *keys: str) -> dict[str, object]:
    with scripted_server(streams.scripts(cases)) as server:
        return streams.told_of(cases, read_in_node(client, server), *keys)


def _text(case: Case, *, own: int = 0) -> dict[str, object]:
    """The text, and how many chunks an SDK makes of it; ``[DONE]``, an error and its own events are none."""
    done = [seen for _, seen in case.kind.close if seen.data != "[DONE]"] if case.end == "clean" else []
    counted = {} if case.end == "cut" else {"chunks": len(case.kind.body) + len(done) - own}
    return {"text": TEXT, **counted}


def test_openai_reads_every_stream_and_throws_api_error_from_the_failure_frame() -> None:
    """All text, no event too many; a failure is an APIError with our code, a cut is an exception."""

    def outcome(case: Case) -> object:
        failed = {"isApiError": True, "name": "APIError", "message": MESSAGE, "code": "timeout_idle"}
        cut = {"isApiError": False, "name": "TypeError", "message": CUT, "code": None}
        error = {"clean": None, "failure": failed, "cut": cut}[case.end]
        return {**_text(case), "error": error}

    cases = streams.cases(*OPENAI)

    assert streams.expected(cases, outcome) == _read("openai", cases)


def test_anthropic_reads_every_stream() -> None:
    """Its named events and pings pass as their function wrote them, ids and heartbeats or not."""

    def outcome(case: Case) -> object:
        cut = {"isApiError": False, "name": "TypeError", "message": CUT}
        error = {"clean": None, "cut": cut}[case.end]
        return {**_text(case, own=1), "error": error}  # the SDK keeps the stream's ping to itself

    cases = streams.cases(*ANTHROPIC)

    assert streams.expected(cases, outcome) == _read("anthropic", cases)


def test_the_ai_sdk_reads_every_stream_and_calls_on_error_with_the_failure() -> None:
    """useChat's state ends `ready` with all text, or `error` with onError told why."""

    def outcome(case: Case) -> object:
        failed = {"name": "Error", "message": f"{MESSAGE} (call {streams.FAILURE['call_id']})"}
        error = {"clean": None, "failure": failed, "cut": {"name": "TypeError", "message": CUT}}[case.end]
        return {
            "text": TEXT,
            "status": "error" if error else "ready",
            "error": error,
            "finish": {"isAbort": False, "isDisconnect": False, "isError": bool(error)},
        }

    cases = streams.cases(*AI_SDK)

    assert streams.expected(cases, outcome) == _read("ai", cases)


def test_eventsource_parser_reads_every_stream() -> None:
    """Exactly the events that were sent; a cut body is an exception of fetch."""

    def outcome(case: Case) -> object:
        return {"events": streams.events_of(case), "error": CUT if case.end == "cut" else None}

    cases = streams.cases()

    assert streams.expected(cases, outcome) == _read("parser", cases)


def test_the_eventsource_package_reads_every_stream() -> None:
    """As a browser does: the page ends it at `end`, and hears of every other end."""

    def outcome(case: Case) -> object:
        return {"events": streams.events_of(case), "ended": streams.eventsource_ends(case)}

    cases = streams.cases()

    assert streams.expected(cases, outcome) == _read("eventsource", cases, "events", "ended")
