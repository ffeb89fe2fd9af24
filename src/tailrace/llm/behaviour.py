"""How the mock model answers: pace, length and faults, one row per knob.

The same rows are the command line options, the query of a model name (``mock?ttft=0.7&reset_after=5``)
and the keys of a request's ``"mock"`` object, so a test, a person and a load tool say it the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl

from tailrace.errors import InvalidRequest
from tailrace.names import nearest

# Far above what a test needs; a stream this long at the default pace would take half a day.
MAX_TOKENS = 1_000_000
MAX_SECONDS = 3600.0
MAX_TOKENS_PER_SECOND = 100_000.0

EndKind = Literal["finish", "reset", "cut", "stall", "error", "truncate", "malformed"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one answer is given. Counts are tokens that reach the client before the fault.

    Args:
        ttft_s: Seconds from the complete request to the first token (and the response head).
        tps: Tokens per second after the first; 0 sends them as fast as the client reads.
        tokens: Length of the answer; None: the text's own length. A request's ``max_tokens`` still bounds it.
        reset_after: The connection is reset (TCP RST).
        cut_after: The connection is closed without the end of the body.
        stall_after: Nothing more is sent, the connection stays open until the client leaves.
        error_after: An error object is sent as the last event (status 500 where nothing was sent yet).
        truncate_after: The stream ends cleanly, without finish reason and ``[DONE]``.
        malformed_after: An event that is no JSON is sent, then the stream ends.
        status: Answer this HTTP error instead of any token; 0: none.
        retry_after_s: Seconds in the ``Retry-After`` head of such an error; None: no such head.
        early_head: The response head comes at once, as OpenAI's does, not with the first token.
    """

    ttft_s: float = 0.3
    tps: float = 20.0
    tokens: int | None = None
    reset_after: int | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    truncate_after: int | None = None
    malformed_after: int | None = None
    status: int = 0
    retry_after_s: int | None = None
    early_head: bool = False

    def end(self, length: int) -> tuple[EndKind, int]:
        """How an answer of `length` tokens ends, and after how many: the earliest fault, else its finish."""
        faults: list[tuple[EndKind, int | None]] = [
            ("reset", self.reset_after),
            ("cut", self.cut_after),
            ("stall", self.stall_after),
            ("error", self.error_after),
            ("truncate", self.truncate_after),
            ("malformed", self.malformed_after),
        ]
        end: tuple[EndKind, int] = ("finish", length)
        for kind, after in faults:
            if after is not None and (after < end[1] or (after == end[1] and end[0] == "finish")):
                end = (kind, after)
        return end


@dataclass(frozen=True, slots=True)
class Knob:
    """One row: its public key, the field it sets, how its text is read, and a sentence for ``--help``."""

    key: str
    field: str
    parse: Callable[[str], Any]
    sentence: str


def _seconds(text: str) -> float:
    return _number(text, MAX_SECONDS, "seconds")


def _rate(text: str) -> float:
    return _number(text, MAX_TOKENS_PER_SECOND, "tokens per second")


def _number(text: str, high: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= high:  # also false for nan
        raise ValueError(f"{unit} from 0 to {high:g}")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > MAX_TOKENS:
        raise ValueError(f"a whole number from 0 to {MAX_TOKENS}")
    return int(text)


def _status(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) != 3 or not 400 <= int(text) <= 599:
        raise ValueError("an HTTP status from 400 to 599")
    return int(text)


def _flag(text: str) -> bool:
    if text not in ("0", "1", "false", "true"):
        raise ValueError("0, 1, false or true")
    return text in ("1", "true")


KNOBS: tuple[Knob, ...] = (
    Knob("ttft", "ttft_s", _seconds, "Seconds to the first token."),
    Knob("tps", "tps", _rate, "Tokens per second; 0 is as fast as the client reads."),
    Knob("tokens", "tokens", _count, "Length of the answer in tokens (the text's own length unless given)."),
    Knob("reset_after", "reset_after", _count, "Reset the connection after this many tokens."),
    Knob("cut_after", "cut_after", _count, "Close without an end after this many tokens."),
    Knob("stall_after", "stall_after", _count, "Fall silent after this many tokens."),
    Knob("error_after", "error_after", _count, "Send an error object after this many tokens."),
    Knob("truncate_after", "truncate_after", _count, "End cleanly but early after this many tokens."),
    Knob(
        "malformed_after", "malformed_after", _count, "Send an event that is no JSON after this many tokens."
    ),
    Knob("status", "status", _status, "Answer with this HTTP error instead, such as 429."),
    Knob("retry_after", "retry_after_s", _count, "Seconds in the Retry-After head of such an error."),
    Knob("early_head", "early_head", _flag, "Send the response head at once, not with the first token."),
)
_BY_KEY = {knob.key: knob for knob in KNOBS}


def change(behaviour: Behaviour, wishes: Mapping[str, str], *, source: str) -> Behaviour:
    """The behaviour with wishes (texts by key) laid over it.

    Args:
        source: Where the wishes stand, for the error's text.
    Raises:
        InvalidRequest: a key that no knob has, or a value its knob does not take.
    """
    fields: dict[str, Any] = {}
    for key, text in wishes.items():
        knob = _BY_KEY.get(key)
        if knob is None:
            near = nearest(key, _BY_KEY)
            raise InvalidRequest(
                f"{source}: unknown key '{key[:80]}'; known keys: {', '.join(_BY_KEY)}",
                hint=f"Did you mean '{near}'?" if near else None,
            )
        try:
            fields[knob.field] = knob.parse(text)
        except ValueError as expected:
            raise InvalidRequest(f"{source}: {key}={text[:80]} is not {expected}") from None
    return replace(behaviour, **fields)


def change_by_model(behaviour: Behaviour, model: str) -> Behaviour:
    """The behaviour that a model name such as ``mock?ttft=0.7&tokens=30`` asks for.

    Raises:
        InvalidRequest: its query is malformed, names an unknown key, or repeats one.
    """
    _, mark, query = model.partition("?")
    if not mark:
        return behaviour
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=50)
    except ValueError:
        raise InvalidRequest(f"model: '{query[:80]}' is no query of key=value pairs") from None
    wishes = dict(pairs)
    if len(wishes) != len(pairs):
        raise InvalidRequest(f"model: a key stands twice in '{query[:80]}'")
    return change(behaviour, wishes, source="model")


def change_by_body(behaviour: Behaviour, extra: object) -> Behaviour:
    """The behaviour that a request's ``"mock"`` object asks for; null values mean: not given.

    Raises:
        InvalidRequest: it is no object of numbers, texts and booleans, or holds an unknown key.
    """
    if not isinstance(extra, dict):
        raise InvalidRequest('"mock" is not an object such as {"tokens": 30}')
    wishes: dict[str, str] = {}
    for key, value in extra.items():
        if isinstance(value, bool):
            wishes[key] = "true" if value else "false"
        elif isinstance(value, (int, float, str)):
            wishes[key] = str(value)
        elif value is not None:
            raise InvalidRequest(f"\"mock\": the value of '{key[:80]}' is not a number, text or boolean")
    return change(behaviour, wishes, source='"mock"')
