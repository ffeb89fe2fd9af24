"""What a request asks of the mock: JSON bodies of the three OpenAI endpoints, checked, as one value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from tailrace.errors import InvalidRequest
from tailrace.llm.behaviour import MAX_TOKENS, Behaviour, change_by_body, change_by_model
from tailrace.llm.mock import text

DialectName = Literal["chat", "completions", "responses"]

PATHS: dict[str, DialectName] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
}
_LIMIT_KEYS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, understood. ``tokens`` is the whole answer; ``finish`` is why it ends there."""

    dialect: DialectName
    model: str
    stream: bool
    include_usage: bool
    behaviour: Behaviour
    tokens: tuple[str, ...]
    finish: Literal["stop", "length"]
    prompt_tokens: int


def read_ask(dialect: DialectName, body: bytes, base: Behaviour) -> Ask:
    """The request that a body holds; `base` is how the mock answers unless the request says otherwise.

    Raises:
        InvalidRequest: it is no JSON object, a field has the wrong type, or a knob is unknown.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body is not a JSON object")
    model = fields.get("model", "mock")
    if not isinstance(model, str) or len(model) > 1000:
        raise InvalidRequest("'model' is not a text of at most 1000 characters")
    behaviour = change_by_model(base, model)
    if "mock" in fields:
        behaviour = change_by_body(behaviour, fields["mock"])
    if fields.get("n") not in (None, 1):
        raise InvalidRequest("'n': the mock gives one answer, n=1")
    options = fields.get("stream_options")
    prompt = _prompt(dialect, fields)
    tokens = text.tokens(prompt, behaviour.tokens)
    limit = _limit(fields)
    return Ask(
        dialect=dialect,
        model=model,
        stream=bool(fields.get("stream")),
        include_usage=bool(isinstance(options, dict) and options.get("include_usage")),
        behaviour=behaviour,
        tokens=tokens[:limit],
        finish="length" if limit is not None and limit < len(tokens) else "stop",
        prompt_tokens=len(prompt) // 4 + 1,
    )


def _limit(fields: dict[str, object]) -> int | None:
    for key in _LIMIT_KEYS:
        value = fields.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_TOKENS:
            raise InvalidRequest(f"'{key}' is not a whole number from 1 to {MAX_TOKENS}")
        return value
    return None


def _prompt(dialect: DialectName, fields: dict[str, object]) -> str:
    """The text that the answer is for: the prompt, or the last user's message."""
    if dialect == "completions":
        prompt = fields.get("prompt", "")
        return _content(prompt[0] if isinstance(prompt, list) and prompt else prompt, "prompt")
    key = "messages" if dialect == "chat" else "input"
    messages = fields.get(key)
    if dialect == "responses" and isinstance(messages, str):
        return messages
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest(f"'{key}' is not a list with at least one message")
    for message in reversed(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"'{key}' holds something that is no message")
        if message.get("role") == "user":
            return _content(message.get("content"), "content")
    return ""


def _content(value: object, key: str) -> str:
    """Text of a content: a text, or the text parts of a list of parts (pictures are not looked at)."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    raise InvalidRequest(f"'{key}' is neither a text nor a list of parts")
