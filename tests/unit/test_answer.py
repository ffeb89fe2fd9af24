"""cli.answer: what `invoke` shows of an answer, and whether it failed."""

from __future__ import annotations

import json

import pytest

from tailrace.cli.answer import Answer

SSE = "text/event-stream"


def shown(
    content_type: str, *chunks: bytes, is_native: bool = False, as_json: bool = False
) -> tuple[str, str]:
    """What is printed, and the error."""
    answer = Answer(content_type, is_native=is_native, as_json=as_json)
    out = b"".join(answer.take(chunk) for chunk in chunks) + answer.end()
    return out.decode(), answer.error


def test_plain_bytes_go_through_untouched() -> None:
    """No newline is added and nothing is decoded."""
    answer = Answer("application/octet-stream", is_native=False, as_json=False)

    assert answer.take(b"\xff\x00ab") + answer.end() == b"\xff\x00ab"


def test_native_tokens_become_running_text() -> None:
    """A function that yields words is read as a sentence; the end event is not shown."""
    chunks = (b"data: Hel\n\n", b"data: lo,\n\ndata:  you\n\n", b"event: end\ndata: {}\n\n")

    assert shown(SSE, *chunks, is_native=True) == ("Hello, you\n", "")


def test_native_dicts_stand_on_lines_of_their_own() -> None:
    """Objects between words stay readable, and readable by jq."""
    chunks = (b'data: a\n\ndata: {"n":1}\n\ndata: {"n":2}\n\ndata: b\n\nevent: end\ndata: {}\n\n',)

    assert shown(SSE, *chunks, is_native=True) == ('a\n{"n":1}\n{"n":2}\nb\n', "")


def test_a_native_stream_without_its_end_has_failed() -> None:
    """A clean-looking close is no success."""
    assert shown(SSE, b"data: a\n\n", is_native=True) == ("a\n", "the stream ended without its last event")


def test_other_event_streams_are_a_line_an_event() -> None:
    """What each event's data was can be seen."""
    assert shown(SSE, b"data:  Some\n\ndata: a\ndata: b\n\n") == (" Some\na\nb\n", "")


@pytest.mark.parametrize(
    ("content_type", "chunk", "is_native", "error"),
    [
        (SSE, b'event: error\ndata: {"code":"x","message":"boom"}\n\nevent: end\ndata: {}\n\n', True, "boom"),
        (SSE, b'event: error\ndata: {"message":"boom"}\n\n', False, "boom"),
        (SSE, b"event: error\ndata: boom\n\n", False, "boom"),
        (SSE, b'data: {"error":{"message":"boom"}}\n\n', False, "boom"),
        (SSE, b'data: {"error":"boom"}\n\n', False, "boom"),
        (SSE, b'data: {"type":"error","errorText":"boom"}\n\n', False, "boom"),
        ("application/x-ndjson", b'{"a":1}\n{"error":{"message":"boom"}}\n', False, "boom"),
        ("application/x-ndjson", b'{"a":1}\n{"error":"boom"}', False, "boom"),
        (SSE, b'data: {"error":null}\n\ndata: error\n\ndata: [DONE]\n\n', False, ""),
        ("application/x-ndjson", b'{"a":1,"error":null}\n', False, ""),
        ("text/plain", b'{"error":"boom"}\n', False, ""),
    ],
)
def test_a_failure_told_inside_the_stream_is_seen(
    content_type: str, chunk: bytes, is_native: bool, error: str
) -> None:
    """Every dialect's way to say it, and nothing else, counts."""
    assert shown(content_type, chunk, is_native=is_native)[1] == error


def test_json_is_one_object_an_event() -> None:
    """Scripts get name, data and id of each event, the last one too."""
    stream = b"id: 1\ndata: a\ndata: b\n\nevent: end\ndata: {}\n\n"
    text, error = shown(SSE, stream, is_native=True, as_json=True)

    assert [json.loads(line) for line in text.splitlines()] == [
        {"event": "message", "data": "a\nb", "id": "1"},
        {"event": "end", "data": "{}"},
    ]
    assert error == ""


def test_json_of_other_answers_is_one_object_a_piece() -> None:
    """Text as text, also when a character is cut in two; bytes as base64; NDJSON a line each."""
    assert shown("text/plain", "ü".encode()[:1], "ü".encode()[1:], as_json=True)[0].endswith(
        '{"data": "ü"}\n'
    )
    assert shown("image/png", b"\xff", as_json=True)[0] == '{"dataBase64": "/w=="}\n'
    assert shown("application/x-ndjson", b'{"a":', b"1}\n\n", as_json=True)[0] == '{"data": "{\\"a\\":1}"}\n'
