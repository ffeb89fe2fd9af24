"""The dialects of streams: how each is recognised, where its events end, how it tells of a failure.

Pure. The edge asks three questions: which dialect is this (from the head, then from the first event),
up to which byte is this piece made of complete events, and which frames end a broken stream truthfully.
A dialect without an answer to the last one (a plain body, SSE of unknown make) is cut instead.
"""

from __future__ import annotations

import enum
import json
import re
from typing import Final

from tailrace.wire.heads import ResponseHead


class Dialect(enum.Enum):
    """How a stream is framed. The values are what ``com.tailrace.stream.dialect`` takes."""

    NATIVE = "native"
    PASSTHROUGH = "passthrough"
    OPENAI = "openai"
    AI_SDK = "ai-sdk"
    NDJSON = "ndjson"
    PLAIN = "plain"


# Dialects in which a failure can be told inside the stream, in a form their clients know.
TELLING = (Dialect.NATIVE, Dialect.OPENAI, Dialect.AI_SDK, Dialect.NDJSON)
_NDJSON_TYPES: Final = (
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/json-lines",
)
# OpenAI's own chunks carry it within the first event; SDKs write it with or without the space.
_OPENAI_MARKS: Final = (b'"object":"chat.completion.chunk"', b'"object": "chat.completion.chunk"')


# LF LF, CRLF CRLF and mixtures of them, CR CR.
_EVENT_ENDS: Final = (b"\n\n", b"\n\r\n", b"\r\r")
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\n\r\n|\r\r")
# A number: bytes are looked for in bytes at many times the cost (docs/decisions/0007).
_CR: Final = 0x0D
_NAME: Final = re.compile(rb"(?:^|[\r\n])event: ?([^\r\n]*)")
# Events that servers of the field send to say that they are there, not to say something.
_CONTROL_EVENTS: Final = frozenset((b"ping", b"status", b"heartbeat", b"keepalive", b"keep-alive", b"end"))
# The first chunk of a chat completion: a role, and an empty content or none.
_ROLE_ALONE: Final = re.compile(
    rb'"delta": ?\{"role": ?"[a-z]+"(?:, ?"content": ?(?:""|null))?(?:, ?"refusal": ?null)?\}'
)
_DATA: Final = re.compile(rb"(?:^|[\r\n])data(?::|[\r\n])")


def dialect_of_head(head: ResponseHead) -> Dialect | None:
    """The dialect that a response's head declares; None for an event stream whose first event must tell."""
    kind = head.content_type.partition(b";")[0].strip().lower()
    if head.get(b"content-encoding") not in (b"", b"identity"):
        return Dialect.PLAIN  # nothing of ours can stand between compressed bytes
    if kind in _NDJSON_TYPES:
        return Dialect.NDJSON
    if kind != b"text/event-stream":
        return Dialect.PLAIN
    if head.get(b"x-tailrace-dialect") == b"native":
        return Dialect.NATIVE
    if head.get(b"x-vercel-ai-ui-message-stream"):
        return Dialect.AI_SDK
    return None


def dialect_of_event(first_event: bytes) -> Dialect | None:
    """The dialect of an event stream, by its first complete event; None for a comment or a control frame."""
    if not _DATA.search(first_event):
        return None
    if any(mark in first_event for mark in _OPENAI_MARKS):
        return Dialect.OPENAI
    return Dialect.PASSTHROUGH


def whole_events(dialect: Dialect | None, data: bytes) -> int:
    """How many bytes at the start of data are complete events; the rest is an event that is not finished.

    Source: WHATWG HTML section 9.2.6 (an event ends at an empty line; LF, CRLF or CR end lines).
    """
    if dialect is Dialect.NDJSON:
        return data.rfind(b"\n") + 1
    if data.endswith(b"\n\n"):
        return len(data)
    return max((at + len(end) for end in _EVENT_ENDS if (at := data.rfind(end)) >= 0), default=0)


def heartbeat(*, carries_ids: bool) -> bytes:
    """A comment that keeps proxies from taking a silent stream for dead; only between complete events.

    After an event with an ``id:`` line openai-python takes a comment with an empty line for an event
    without data and fails, so such streams get the comment alone, as the first line of what follows.

    Source: WHATWG HTML section 9.2.7; the clients' behaviour is held by tests/clients.
    """
    return b": ping\n" if carries_ids else b": ping\n\n"


def status_frame(state: str) -> bytes:
    """An event that tells a waiting caller what its call waits for: ``queued`` or ``starting``."""
    return b'event: status\ndata: {"state":"%b"}\n\n' % state.encode()


def is_one_line(events: bytes) -> bool:
    """Whether these whole events are one, of one line of data: then nothing else can stand in it."""
    return events.startswith(b"data:") and events.count(b"\n") == 2 and _CR not in events


def count_content(dialect: Dialect | None, events: bytes, *, is_first: bool) -> int:
    """How many events of these carry data of the answer: comments and control events carry none.

    ``events`` are bytes of an event stream in which the events that are looked for stand whole.

    Args:
        is_first: No content has come yet: the chunk of a chat completion that only names a role is none.
    """
    found = 0
    for event in _EVENT_END.split(events):
        if not _DATA.search(event):
            continue
        name = _NAME.search(event)
        if name is not None and name[1] in _CONTROL_EVENTS:
            continue
        if is_first and not found and dialect in (Dialect.OPENAI, None) and _ROLE_ALONE.search(event):
            continue
        found += 1
    return found


def failure_frames(dialect: Dialect | None, code: str, message: str, call_id: str) -> bytes:
    """The bytes that end a broken stream of this dialect: exactly one error, then what clients wait for.

    Args:
        dialect: None for a stream that has had nothing of its function yet, only a head that was sent early:
            then the client is unknown, and each finds its own form of an error in one frame.

    Raises:
        ValueError: the dialect cannot tell; cut the connection.
    """
    error = {"code": code, "message": message, "call_id": call_id}
    if dialect is None:
        # `error` for the SDKs of OpenAI and Anthropic, `errorText` for the AI SDK, the rest for all others.
        forms = {"type": "error", "errorText": f"{message} (call {call_id})"}
        anyones = {**forms, "error": {"type": "api_error", **error}, **error}
        return b"event: error\ndata: %b\n\nevent: end\ndata: {}\n\n" % _json(anyones)
    if dialect is Dialect.NATIVE:
        return b"event: error\ndata: %b\n\nevent: end\ndata: {}\n\n" % _json(error)
    if dialect is Dialect.OPENAI:
        told = {"error": {"message": message, "type": "server_error", "code": code, "call_id": call_id}}
        return b"data: %b\n\n" % _json(told)
    if dialect is Dialect.AI_SDK:
        return b"data: %b\n\n" % _json({"type": "error", "errorText": f"{message} (call {call_id})"})
    if dialect is Dialect.NDJSON:
        return b"%b\n" % _json({"error": error})
    raise ValueError(f"a {dialect.value} stream cannot tell of a failure")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
