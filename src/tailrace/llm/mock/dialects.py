"""The bytes of an answer, in the JSON and event shapes of OpenAI's three endpoints.

Ids count up and ``created`` is 0, so equal questions to a fresh mock get equal bytes.
Source: what openai-python 3.54 and llama.cpp's server send and accept.
"""

from __future__ import annotations

import json
from typing import Protocol

from tailrace.llm.mock.ask import Ask

_OBJECT = {"chat": "chat.completion", "completions": "text_completion"}
_HOLE = "\0token\0"


class Dialect(Protocol):
    """Events of one streamed answer, and the whole answer of one that is not streamed."""

    def opening(self) -> bytes: ...
    def token(self, token: str) -> bytes: ...
    def closing(self) -> bytes: ...
    def whole(self) -> bytes: ...


def dialect_of(ask: Ask, serial: int) -> Dialect:
    """The dialect an ask is answered in; `serial` makes its ids."""
    return _Responses(ask, serial) if ask.dialect == "responses" else _Completions(ask, serial)


def encode(value: object) -> bytes:
    # A surrogate that a client's text was cut at comes back as a question mark.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def error_object(message: str, kind: str, code: str | None = None) -> dict[str, object]:
    """The error as OpenAI's endpoints write it, in a body or in an event."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def data_event(value: object) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


MID_STREAM_ERROR = data_event(error_object("the mock was told to fail here", "server_error", "mock_error"))
MALFORMED = b'data: {"id":"broken","choices":[{"index":0,"delta":{"content":"\n\n'


def _around_hole(event: bytes) -> tuple[bytes, bytes]:
    """An event's bytes before and after its token: the rest is the same for all of them."""
    before, hole, after = event.partition(json.dumps(_HOLE).encode())
    assert hole
    return before, after


class _Completions:
    """Chat and plain completions: ``data:`` events of one object kind, ended by ``[DONE]``."""

    def __init__(self, ask: Ask, serial: int) -> None:
        self._ask = ask
        self._is_chat = ask.dialect == "chat"
        self._id = f"{'chatcmpl' if self._is_chat else 'cmpl'}-mock-{serial}"
        self._before, self._after = _around_hole(self._event(self._piece({"content": _HOLE}, _HOLE, None)))

    def opening(self) -> bytes:
        if not self._is_chat:
            return b""
        return self._event(self._piece({"role": "assistant", "content": ""}, "", None))

    def token(self, token: str) -> bytes:
        return self._before + json.dumps(token).encode() + self._after

    def closing(self) -> bytes:
        events = self._event(self._piece({}, "", self._ask.finish))
        if self._ask.include_usage:
            events += self._event(None, usage=_usage(self._ask))
        return events + b"data: [DONE]\n\n"

    def whole(self) -> bytes:
        said = "".join(self._ask.tokens)
        choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": self._ask.finish}
        if self._is_chat:
            choice["message"] = {"role": "assistant", "content": said}
        else:
            choice["text"] = said
        return encode({**self._frame(chunk=False), "choices": [choice], "usage": _usage(self._ask)})

    def _piece(self, delta: dict[str, str], said: str, finish: str | None) -> dict[str, object]:
        content: dict[str, object] = {"delta": delta} if self._is_chat else {"text": said}
        return {"index": 0, **content, "logprobs": None, "finish_reason": finish}

    def _event(self, choice: dict[str, object] | None, **more: object) -> bytes:
        return data_event({**self._frame(chunk=True), "choices": [choice] if choice else [], **more})

    def _frame(self, *, chunk: bool) -> dict[str, object]:
        kind = _OBJECT[self._ask.dialect] + (".chunk" if chunk and self._is_chat else "")
        return {"id": self._id, "object": kind, "created": 0, "model": self._ask.model}


class _Responses:
    """The Responses endpoint: named events with sequence numbers, no ``[DONE]``."""

    def __init__(self, ask: Ask, serial: int) -> None:
        self._ask = ask
        self._id, self._item = f"resp-mock-{serial}", f"msg-mock-{serial}"
        self._place = {"item_id": self._item, "output_index": 0, "content_index": 0}
        self._sequence = 0

    def opening(self) -> bytes:
        begun = self._response("in_progress", [])
        item = {**self._message(""), "status": "in_progress", "content": []}
        return b"".join((
            self._event("response.created", response=begun),
            self._event("response.in_progress", response=begun),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place, part=_part("")),
        ))  # fmt: skip

    def token(self, token: str) -> bytes:
        return self._event("response.output_text.delta", **self._place, delta=token, logprobs=[])

    def closing(self) -> bytes:
        said = "".join(self._ask.tokens)
        return b"".join((
            self._event("response.output_text.done", **self._place, text=said, logprobs=[]),
            self._event("response.content_part.done", **self._place, part=_part(said)),
            self._event("response.output_item.done", output_index=0, item=self._message(said)),
            self._event(self._end_name(), response=self._whole()),
        ))  # fmt: skip

    def whole(self) -> bytes:
        return encode(self._whole())

    def _end_name(self) -> str:
        return "response.completed" if self._ask.finish == "stop" else "response.incomplete"

    def _whole(self) -> dict[str, object]:
        status = "completed" if self._ask.finish == "stop" else "incomplete"
        usage = _usage(self._ask)
        counts = {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        output: list[object] = [self._message("".join(self._ask.tokens))]
        return {**self._response(status, output), "usage": counts, "incomplete_details": reason}

    def _response(self, status: str, output: list[object]) -> dict[str, object]:
        return {
            "id": self._id, "object": "response", "created_at": 0, "model": self._ask.model, "status": status,
            "output": output, "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
            "parallel_tool_calls": True, "temperature": None, "tool_choice": "auto", "tools": [],
            "top_p": None,
        }  # fmt: skip

    def _message(self, said: str) -> dict[str, object]:
        return {
            "id": self._item, "type": "message", "role": "assistant", "status": "completed",
            "content": [_part(said)],
        }  # fmt: skip

    def _event(self, name: str, **fields: object) -> bytes:
        body = encode({"type": name, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"


def _part(said: str) -> dict[str, object]:
    return {"type": "output_text", "text": said, "annotations": [], "logprobs": []}


def _usage(ask: Ask) -> dict[str, int]:
    said = len(ask.tokens)
    return {
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": ask.prompt_tokens + said,
    }
