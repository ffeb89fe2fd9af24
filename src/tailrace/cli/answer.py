"""A function's answer on its way to the screen: what is shown of each event, and whether it failed. Pure."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable

from tailrace.wire.sse import ServerEvent, SseDecoder

_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines")
_LINE_LIMIT_BYTES = 1024 * 1024


class Answer:
    """Turns the bytes of an answer into bytes for stdout, as they come.

    Of an event stream the data of each event is shown: a line each, or joined to running text where the
    function yields tokens (the native dialect). Anything else goes through untouched.

    Attributes:
        error: What the stream said went wrong; empty while nothing did.
    """

    def __init__(self, content_type: str, *, is_native: bool, as_json: bool) -> None:
        self.error = ""
        self._is_native = is_native
        self._as_json = as_json
        self._has_ended = False
        self._is_inside_line = False
        self._sse = SseDecoder()
        self._lines = b""
        self._text = codecs.getincrementaldecoder("utf-8")("strict")
        self._take: Callable[[bytes], bytes] = self._raw
        if content_type == "text/event-stream":
            self._take = self._events
        elif content_type in _NDJSON:
            self._take = self._ndjson

    def take(self, chunk: bytes) -> bytes:
        """What to print now.

        Raises:
            EventTooLarge: an event has over 1 MiB.
        """
        return self._take(chunk)

    def end(self) -> bytes:
        """What to print at the end of the body; a native stream without its last event is an error."""
        tail = b""
        if self._lines:
            tail = self._line(self._lines)
        if self._is_inside_line:
            tail += b"\n"
        if self._is_native and not self._has_ended and not self.error:
            self.error = "the stream ended without its last event"
        return tail

    def _raw(self, chunk: bytes) -> bytes:
        if not self._as_json:
            return chunk
        try:
            text = self._text.decode(chunk)
            return _object({"data": text}) if text else b""
        except UnicodeDecodeError:
            self._text.reset()
            return _object({"dataBase64": base64.b64encode(chunk).decode()})

    def _ndjson(self, chunk: bytes) -> bytes:
        *lines, self._lines = (self._lines + chunk).split(b"\n")
        if len(self._lines) > _LINE_LIMIT_BYTES:
            lines, self._lines = [*lines, self._lines], b""
        return b"".join(self._line(line) for line in lines)

    def _line(self, line: bytes) -> bytes:
        value = _parse(line.decode("utf-8", "replace"))
        if isinstance(value, dict) and set(value) == {"error"}:
            self.error = _message(value["error"])
        if not self._as_json:
            return line + b"\n"
        return _object({"data": line.decode("utf-8", "replace")}) if line.strip() else b""

    def _events(self, chunk: bytes) -> bytes:
        return b"".join(self._event(event) for event in self._sse.feed(chunk))

    def _event(self, event: ServerEvent) -> bytes:
        self._look_for_error(event)
        if self._as_json:
            shown = {"event": event.event, "data": event.data}
            return _object(shown | ({"id": event.id} if event.id is not None else {}))
        if self._is_native and event.event in ("end", "error"):
            return b""
        data = event.data.encode("utf-8", "replace")
        if not self._is_native:
            return data + b"\n"
        if isinstance(_parse(event.data), dict):  # a dict that was yielded: a line of its own
            begin = b"\n" if self._is_inside_line else b""
            self._is_inside_line = False
            return begin + data + b"\n"
        self._is_inside_line = not data.endswith(b"\n") if data else self._is_inside_line
        return data

    def _look_for_error(self, event: ServerEvent) -> None:
        value = _parse(event.data)
        if event.event == "error":
            self.error = _message(value) if value is not None else event.data
        elif self._is_native:
            self._has_ended = self._has_ended or event.event == "end"
        elif isinstance(value, dict) and value.get("type") == "error" and "errorText" in value:  # AI SDK
            self.error = _message(value["errorText"])
        elif isinstance(value, dict) and value.get("error"):  # OpenAI's clients raise on it too
            self.error = _message(value["error"])


def _parse(text: str) -> object:
    if not text.lstrip().startswith("{"):
        return None
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _message(value: object) -> str:
    if isinstance(value, dict):
        found = value.get("message") or value.get("error") or value
        return found if isinstance(found, str) else json.dumps(found)
    return str(value)


def _object(value: dict[str, str]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
