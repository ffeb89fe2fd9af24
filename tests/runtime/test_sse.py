"""What a handler yields, as events: values to bytes and back through a parser of the standard."""

from __future__ import annotations

import pytest

from tailrace_runtime.sse import END, Event, encode_item, encoder_for, pass_bytes

CASES = [
    ("word", b"data: word\n\n"),
    ("", b"data: \n\n"),
    (" leading", b"data:  leading\n\n"),
    ("a\nb", b"data: a\ndata: b\n\n"),
    ("a\n\nb\n", b"data: a\ndata: \ndata: b\ndata: \n\n"),
    ("a\r\nb\rc", b"data: a\ndata: b\ndata: c\n\n"),
    ("é\u2028\x0bx", "data: é\u2028\x0bx\n\n".encode()),
    ("\ud800", b"data: ?\n\n"),
    ({"token": "a\nb", "é": 1}, 'data: {"token":"a\\nb","é":1}\n\n'.encode()),
    ([1, None], b"data: [1,null]\n\n"),
    (Event("x", event="delta", id="7", retry=10), b"event: delta\nid: 7\nretry: 10\ndata: x\n\n"),
    (Event({"a": 1}, event="delta"), b'event: delta\ndata: {"a":1}\n\n'),
    (Event("a\nb", id=""), b"id: \ndata: a\ndata: b\n\n"),
    (Event(None), b"data: null\n\n"),
]


def parse(stream: bytes) -> list[dict[str, str]]:
    """Events as the WHATWG parser dispatches them, for streams whose lines end in LF."""
    events = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        event: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = event[name] + "\n" + value if name == "data" and name in event else value
        events.append(event)
    return events


@pytest.mark.parametrize(("item", "expected"), CASES)
def test_an_item_is_one_event(item: object, expected: bytes) -> None:
    """Each kind of item has one form on the wire."""
    assert expected == encode_item(item)


@pytest.mark.parametrize(
    "text", ["", " ", "a", "a\n", "\na", "a\n\nb", "data: x\nid: 1", " two  spaces ", ":"]
)
def test_text_is_recovered_exactly(text: str) -> None:
    """Whatever lines a token has, a client's parser gives the same text back."""
    assert [{"data": text}] == parse(encode_item(text))


def test_the_end_is_an_event_of_its_own() -> None:
    """The end of a native stream has a name and an empty object."""
    assert [{"event": "end", "data": "{}"}] == parse(END)


@pytest.mark.parametrize(
    "field",
    [
        {"event": "a\nb"},
        {"event": "a\rb"},
        {"id": "a\0b"},
        {"retry": -1},
        {"retry": True},
        {"retry": 1.5},
        {"retry": "1"},
    ],
)
def test_a_field_that_would_break_the_event_is_refused(field: dict[str, str]) -> None:
    """No line end or NUL gets into an event's name or id, and a retry is whole milliseconds."""
    with pytest.raises(ValueError, match="Event"):
        Event("x", **field)  # type: ignore[arg-type]  # the table holds wrong values


@pytest.mark.parametrize("item", [None, 1, b"raw", object()])
def test_other_items_are_refused_among_events(item: object) -> None:
    """A stream of events takes str, dict, list and Event; the error says so."""
    with pytest.raises(TypeError, match="handler yielded"):
        encode_item(item)


@pytest.mark.parametrize("item", [{"x": float("nan")}, {"x": float("inf")}])
def test_numbers_without_a_json_form_are_refused(item: object) -> None:
    """NaN is no JSON: a client's parser would fail on it."""
    with pytest.raises(ValueError, match="JSON"):
        encode_item(item)


@pytest.mark.parametrize("item", [{"x": object()}, [object()], Event({"x": object()}), {("a", "b"): 1}])
def test_values_without_a_json_form_are_told_with_what_was_expected(item: object) -> None:
    """The traceback has no line of the handler, which waits at its yield: the words have to do."""
    with pytest.raises(TypeError, match=r"handler yielded has no form in JSON: .*; expected str, int"):
        encode_item(item)


def test_bytes_first_make_a_raw_stream() -> None:
    """The first item decides; after bytes only bytes may come."""
    is_events, encode = encoder_for(b"\x00")

    assert not is_events
    assert b"\x01" == encode(bytearray(b"\x01"))
    with pytest.raises(TypeError, match="all bytes or all events"):
        pass_bytes("text")
