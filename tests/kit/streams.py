"""The streams that a client may get from the gateway: every dialect, heartbeats everywhere, every end.

Values only. What a stream means is written down beside its bytes, so that no parser of ours is its
own judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tailrace.wire.dialects import Dialect, failure_frames, heartbeat
from tailrace_runtime.sse import END, Event, encode_item
from tests.kit.scripted import Script

# What each stream says; LF and leading blanks are what a framing loses first.
TEXTS = ("Hel", "lo,\n wör", "ld", " \U0001f642 data: x", ":")
TEXT = "".join(TEXTS)
FAILURE = {"code": "timeout_idle", "message": "nothing came for idle=2s", "call_id": "c4llc4ll"}
BLANK, SINGLE = b": ping\n\n", b": ping\n"
PLACES = ("none", "first", "between", "glued", "many", "last")
ENDS = ("clean", "failure", "cut")


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as a WHATWG parser dispatches it."""

    data: str
    event: str = "message"


@dataclass(frozen=True, slots=True)
class Kind:
    """A make of stream: its events, each with what it means, and the events that end it well."""

    name: str
    dialect: Dialect
    body: tuple[tuple[bytes, Seen], ...]
    close: tuple[tuple[bytes, Seen], ...]

    @property
    def carries_ids(self) -> bool:
        return b"id: " in self.body[0][0]


@dataclass(frozen=True, slots=True)
class Case:
    """One stream, and what a client that reads it right has seen of it."""

    name: str
    kind: Kind
    end: str
    place: str
    form: bytes
    script: Script
    seen: tuple[Seen, ...]


def _block(event: bytes) -> tuple[bytes, Seen]:
    """An encoded event of one line of data, with its meaning."""
    lines = dict(line.split(": ", 1) for line in event.decode().strip("\n").split("\n"))
    return event, Seen(lines["data"], lines.get("event", "message"))


def _json(value: object, *, event: str = "") -> tuple[bytes, Seen]:
    data = json.dumps(value, ensure_ascii=False)
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {data}\n\n".encode(), Seen(data, event or "message")


def _native() -> Kind:
    body = tuple((encode_item(text), Seen(text)) for text in TEXTS)
    return Kind("native", Dialect.NATIVE, body, (_block(END),))


def _native_ids() -> Kind:
    body = tuple((encode_item(Event(text, id=f"run-{at}")), Seen(text)) for at, text in enumerate(TEXTS))
    return Kind("native-ids", Dialect.NATIVE, body, (_block(b"id: run-end\n" + END),))


def openai_chunk(text: str, *, finish: str | None = None) -> dict[str, object]:
    """A chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [choice],
    }  # fmt: skip


def _openai() -> Kind:
    body = tuple(_json(openai_chunk(text)) for text in TEXTS)
    done = (b"data: [DONE]\n\n", Seen("[DONE]"))
    return Kind("openai", Dialect.OPENAI, body, (_json(openai_chunk("", finish="stop")), done))


def _ai_sdk() -> Kind:
    deltas = [{"type": "text-delta", "id": "1", "delta": text} for text in TEXTS]
    body = [{"type": "start"}, {"type": "text-start", "id": "1"}, *deltas]
    close = [_json({"type": "text-end", "id": "1"}), _json({"type": "finish"})]
    done = (b"data: [DONE]\n\n", Seen("[DONE]"))
    return Kind("ai-sdk", Dialect.AI_SDK, tuple(_json(part) for part in body), (*close, done))


def _anthropic() -> Kind:
    """A stream that its function framed itself: Anthropic's events, which have names and pings."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: dict[str, object] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    start: list[dict[str, object]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    deltas: list[dict[str, object]] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in TEXTS
    ]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    close: list[dict[str, object]] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    named = [[_json(one, event=str(one["type"])) for one in many] for many in (start + deltas, close)]
    return Kind("passthrough", Dialect.PASSTHROUGH, tuple(named[0]), tuple(named[1]))


def _with_ids(kind: Kind) -> Kind:
    def mark(events: tuple[tuple[bytes, Seen], ...], first: int) -> tuple[tuple[bytes, Seen], ...]:
        return tuple((b"id: e-%d\n" % (first + at) + block, seen) for at, (block, seen) in enumerate(events))

    return replace(
        kind, name=f"{kind.name}-ids", body=mark(kind.body, 0), close=mark(kind.close, len(kind.body))
    )


_OWN = (_openai(), _ai_sdk(), _anthropic())
KINDS = {kind.name: kind for kind in (_native(), _native_ids(), *_OWN, *(_with_ids(kind) for kind in _OWN))}


def cases(*kinds: str, forms: tuple[bytes, ...] = ()) -> dict[str, Case]:
    """Every stream of these kinds, by name.

    Args:
        kinds: Of KINDS; all of them when none is named.
        forms: The heartbeat to use, also where it is not the gateway's; the gateway's own when empty.
    """
    chosen = [KINDS[name] for name in kinds] or list(KINDS.values())
    made = [one for kind in chosen for one in _cases_of(kind, forms)]
    return {case.name: case for case in made}


def scripts(of: dict[str, Case]) -> dict[str, Script]:
    """What the scripted server is told to serve."""
    return {name: case.script for name, case in of.items()}


def _cases_of(kind: Kind, forms: tuple[bytes, ...]) -> Iterator[Case]:
    for place in PLACES:
        for form in (b"",) if place == "none" else forms or (b"",):
            for end in ENDS:
                if end == "failure" and kind.dialect is Dialect.PASSTHROUGH:
                    continue  # it is cut: nothing of ours stands in a stream of unknown make
                yield _case(kind, place, end, form)


def _case(kind: Kind, place: str, end: str, form: bytes) -> Case:
    close, seen_close = _end(kind, end)
    body = [block for block, _ in kind.body]
    # Before an event with an id came, a comment with its empty line is harmless to everybody.
    early = form or heartbeat(carries_ids=False)
    later = form or heartbeat(carries_ids=kind.carries_ids)
    pieces = {
        "none": [*body, *close],
        "first": [early, early, *body, *close],
        "between": [*body[:2], later, *body[2:], *close],
        "glued": [*body[:2], later + body[2], *body[3:], *close],
        "many": [*body[:1], later, later, later, *body[1:4], later * 3, *body[4:], *close],
        "last": [*body, later, *close],
    }[place]
    written = {BLANK: "-blank", SINGLE: "-single"}.get(form, "")
    script = Script(tuple(pieces), is_cut=end == "cut")
    seen = (*(seen for _, seen in kind.body), *seen_close)
    return Case(f"{kind.name}.{place}{written}.{end}", kind, end, place, form, script, seen)


def _end(kind: Kind, end: str) -> tuple[list[bytes], tuple[Seen, ...]]:
    if end == "cut":
        return [], ()
    if end == "clean":
        return [block for block, _ in kind.close], tuple(seen for _, seen in kind.close)
    frames = failure_frames(kind.dialect, **FAILURE)
    blocks = [block + b"\n\n" for block in frames.split(b"\n\n") if block]
    return [frames], tuple(seen for _, seen in map(_block, blocks))


def expected(of: dict[str, Case], outcome: Callable[[Case], object]) -> dict[str, object]:
    """What a client should make of each stream, by the stream's name."""
    return {name: outcome(case) for name, case in of.items()}


def eventsource_ends(case: Case) -> str:
    """How a page with an EventSource learns of the end: by our ``end`` event, or by the lost connection.

    Without ``end`` even a complete stream looks like a lost connection to it, and it comes back.
    """
    has_end = case.kind.dialect is Dialect.NATIVE and case.end != "cut"
    return "end" if has_end else "reconnecting"


def told_of(
    cases: Mapping[str, Case], outcomes: Mapping[str, Mapping[str, object]], *keys: str
) -> dict[str, object]:
    """What a JavaScript client told of each stream (all of it, or these keys).

    Of a cut stream the beginning of its text counts as all: a fetch that fails drops what had arrived and
    was not read yet, so how far it came is left to chance.
    """
    told: dict[str, object] = {}
    for name, case in cases.items():
        chosen = {key: outcomes[name][key] for key in keys or outcomes[name]}
        told[name] = _as_far(case, chosen) if case.end == "cut" else chosen
    return told


def _as_far(case: Case, told: Mapping[str, object]) -> dict[str, object]:
    whole: dict[str, str | list[list[str]]] = {"text": TEXT, "events": events_of(case)}
    read = {name: value for name, value in told.items() if name != "chunks"}
    for name, all_of_it in whole.items():
        part = read.get(name)
        if isinstance(part, str | list) and part == all_of_it[: len(part)]:
            read[name] = all_of_it
    return read


def events_of(case: Case) -> list[list[str]]:
    """The events of a stream as JavaScript lists them."""
    return [[seen.event, seen.data] for seen in case.seen]
