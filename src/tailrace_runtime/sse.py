"""Items of a handler to Server-Sent Events: values to bytes, no I/O.

Source: WHATWG HTML, "Server-sent events" (fields, line ends, which ids and names are legal).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

END = b"event: end\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event, sent as given.

    Args:
        data: A str is sent as text, line by line; anything else as JSON.
        event: The event's type, or None for ``message``.
        id: What a browser sends back as ``Last-Event-ID``, or None.
        retry: Milliseconds a browser waits before it reconnects, or None.
    Raises:
        ValueError: event or id hold a line end or NUL, which would end the field or void the id;
            retry is no int, or negative.
    """

    data: object
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        for name, text in (("event", self.event), ("id", self.id)):
            if text is not None and any(c in text for c in "\r\n\0"):
                raise ValueError(f"Event({name}={text!r}): a line end or NUL cannot stand in it")
        # A bool is an int, and would be written as True.
        if self.retry is not None and (type(self.retry) is not int or self.retry < 0):
            raise ValueError(f"Event(retry={self.retry}): expected whole milliseconds, 0 or more")


def encode_text(text: str) -> bytes:
    r"""One event whose data is text; ``\r\n`` and ``\r`` arrive as ``\n``, all else exactly."""
    if "\n" in text or "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    return f"data: {text}\n\n".encode(errors="replace")


def encode_json(value: object) -> bytes:
    """One event of JSON, which is a single line.

    Raises:
        TypeError, ValueError: value has no JSON form (NaN and infinities have none).
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        # The traceback ends here: a generator that is suspended at its yield is no frame of it.
        raise type(error)(
            f"what the handler yielded has no form in JSON: {error}; expected str, int, finite float, bool, "
            "None, and lists and dicts of them"
        ) from None
    return b"data: %b\n\n" % text.encode(errors="replace")


def encode_event(event: Event) -> bytes:
    """An Event with its fields before its data. Raises as `encode_json`."""
    fields = ""
    if event.event is not None:
        fields += f"event: {event.event}\n"
    if event.id is not None:
        fields += f"id: {event.id}\n"
    if event.retry is not None:
        fields += f"retry: {event.retry}\n"
    data = encode_text(event.data) if isinstance(event.data, str) else encode_json(event.data)
    return fields.encode(errors="replace") + data


def encode_item(item: object) -> bytes:
    """What a handler yielded, as one event.

    Raises:
        TypeError: it is none of str, dict, list and Event.
        ValueError: as `encode_json`.
    """
    if isinstance(item, str):
        return encode_text(item)
    if isinstance(item, (dict, list)):
        return encode_json(item)
    if isinstance(item, Event):
        return encode_event(item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        raise TypeError("the handler yielded bytes after events: a stream is all bytes or all events")
    raise TypeError(f"the handler yielded {_name(item)}: expected str, dict, list, Event or bytes")


def pass_bytes(item: object) -> bytes:
    """What a handler yielded into a raw body.

    Raises:
        TypeError: it is not bytes.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    raise TypeError(f"the handler yielded {_name(item)} after bytes: a stream is all bytes or all events")


def encoder_for(first: object) -> tuple[bool, Callable[[object], bytes]]:
    """Whether the stream that begins with this item is events, and what encodes its items."""
    if isinstance(first, (bytes, bytearray, memoryview)):
        return False, pass_bytes
    return True, encode_item


def _name(item: object) -> str:
    return "None" if item is None else f"a value of type {type(item).__name__!r}"
