"""What a stream does next: the table that clients/js/test/course.test.mjs holds TypeScript to."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tailrace.client import streams, sync
from tailrace.client.course import Course, Reply
from tailrace.client.steps import Resume, call_target
from tailrace.errors import CallRefused, RunFailed, TailraceError
from tailrace.wire.runs import RunRecord
from tailrace.wire.sse import ServerEvent

TABLE = Path(__file__).parents[1] / "clients" / "courses.json"
RUN = "rrrrrrrrrrrrrrrrrrrrrrrrrr"
CASES: list[dict[str, Any]] = json.loads(TABLE.read_text().replace("RUN", RUN))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(RUN, "run"))
def test_a_course_is_as_the_table_says(case: dict[str, Any]) -> None:
    """Each step's verdict, wait or error."""
    course = Course(case["attempts"], case["run"], case["after"])

    for name, *given, expected in ([*step, None] if step == ["heard"] else step for step in case["steps"]):
        assert expected == _step(course, name, *given), (name, given)


def _step(course: Course, name: str, *given: Any) -> object:
    try:
        return _do(course, name, *given)
    except RunFailed as failed:
        return f"RunFailed {failed.reason}"
    except CallRefused as refused:
        return f"CallRefused {refused.status}"
    except TailraceError as error:
        return type(error).__name__


def _do(course: Course, name: str, *given: Any) -> object:
    if name == "next":
        return "watch" if course.next_is_watch() else "call"
    if name == "pause":
        return round(course.pause_s(1.0), 3)
    if name == "after":
        return course.after
    if name == "heard":
        course.heard()
        return None
    if name == "ended":
        return course.ended().name.lower()
    if name == "event":
        return course.event(msgspec.convert(given[0], ServerEvent)).name.lower()
    if name == "looked":
        record = {"id": RUN, "function": "f", "created_at": "", **given[0]}
        return course.looked(msgspec.convert(record, RunRecord)).name.lower()
    return course.replied(_reply(given[0])).name.lower()


def _reply(given: dict[str, Any]) -> Reply:
    names = {
        "call_id": "x-call-id",
        "type": "content-type",
        "dialect": "x-tailrace-dialect",
        "retry_after": "retry-after",
    }
    headers = {names[key]: value for key, value in given.items() if key in names}
    return Reply(given["status"], headers, given.get("body", "").encode())


@pytest.mark.parametrize(
    ("given", "key", "expected"), [("mine", "", "mine"), ("mine", "other", "other"), ("", "other", "other")]
)
def test_a_key_among_the_headers_is_the_calls(given: str, key: str, expected: str) -> None:
    """Beside it a random one was sent, which counted: who called again with his key began a second run."""
    headers = {"Idempotency-Key": given} if given else {}

    target = call_target("http://gw/function/f", "", b"x", headers, Resume(key=key), "")

    sent = target.ask(Course(1)).headers
    assert [expected] == [value for name, value in sent if name == "idempotency-key"]


def test_an_error_event_nested_without_end_is_an_event_like_others() -> None:
    """What a function says can end a stream, but not with Python's own error."""
    course = Course(0)
    course.replied(Reply(200, {"content-type": "text/event-stream"}))

    assert "READ" == course.event(ServerEvent("error", "[" * 200_000)).name


@pytest.mark.parametrize("name", ["stream", "attach", "stop"])
def test_both_loops_take_the_same(name: str) -> None:
    """What awaits and what blocks differ in the client of httpx, and in nothing else that can be given."""
    awaits, blocks = (inspect.signature(getattr(module, name)).parameters for module in (streams, sync))

    assert [str(one).replace("httpx.AsyncClient", "httpx.Client") for one in awaits.values()] == [
        str(one) for one in blocks.values()
    ]


def test_both_streams_have_the_same() -> None:
    """Their public names, but for what closes them and what iterates."""
    awaits, blocks = ({n for n in dir(kind) if n[0] != "_"} for kind in (streams.Stream, sync.Stream))

    assert awaits - {"aclose"} == blocks - {"close"}
