"""One request, sent as it stands and nothing added, and what its answer has to look like.

A shape is written as an example: a type stands for any value of it, a function for what it accepts, a dict
for an object of exactly these keys, a list of one for a list of such, anything else for itself. A key that
ends in ``?`` may be missing and is never zero: what is zero is omitted (contract 1.2).
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LIMIT_S = 60.0
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; ``arrived_s`` is when each piece of the body did, from the request on."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    arrived_s: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return self.body.decode()


def send(
    port: int,
    request: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    until: bytes | None = None,
) -> Reply:
    """Send ``METHOD TARGET`` with these headers, and Host and Content-Length.

    Args:
        until: Read until the body holds this and leave, instead of reading to its end.
    """
    method, _, target = request.partition(" ")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        began = time.monotonic()
        answer = connection.getresponse()
        found, arrived = b"", []
        while (until is None or until not in found) and (piece := answer.read1(65536)):
            found += piece
            arrived.append(time.monotonic() - began)
        # As Go reads them: names by any case, the last one counts here.
        heads = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, heads, found, tuple(arrived))
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Text:
    """A text that matches an expression."""

    pattern: str

    def __call__(self, value: object) -> bool:
        return isinstance(value, str) and re.search(self.pattern, value, re.DOTALL) is not None

    def __repr__(self) -> str:
        return f"/{self.pattern}/"


def number(value: object) -> bool:
    """A JSON number, with a point or without: one type to JSON, and to Go's float64."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def holding(*wanted: object) -> Callable[[object], bool]:
    """A list that holds an element of each of these shapes, among others."""

    def holds(value: object) -> bool:
        return isinstance(value, list) and all(
            any(not differences(shape, found) for found in value) for shape in wanted
        )

    return holds


def among(wanted: Mapping[str, object]) -> Callable[[object], bool]:
    """An object that has at least these."""

    def has(value: object) -> bool:
        return isinstance(value, dict) and not [
            at
            for key, shape in wanted.items()
            for at in (differences(shape, value[key]) if key in value else [key])
        ]

    return has


def differences(shape: object, value: object, at: str = "") -> list[str]:
    """Where a value is not of this shape; empty when it is."""
    if isinstance(shape, dict):
        return _of_object(shape, value, at)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{at or 'body'}: no list: {value!r}"]
        return [d for n, item in enumerate(value) for d in differences(shape[0], item, f"{at}[{n}]")]
    if isinstance(shape, type):
        is_so = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    elif callable(shape):
        is_so = bool(shape(value))
    else:
        is_so = shape == value
    return [] if is_so else [f"{at or 'body'}: expected {shape!r}, got {value!r}"]


def _of_object(shape: Mapping[str, object], value: object, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at or 'body'}: no object: {value!r}"]
    wanted = {key.removesuffix("?"): (key.endswith("?"), inner) for key, inner in shape.items()}
    found = [f"{at}.{key}: is not in the contract" for key in value if key not in wanted]
    for key, (is_optional, inner) in wanted.items():
        if key not in value:
            found += [] if is_optional else [f"{at}.{key}: is missing"]
        elif is_optional and value[key] in (0, "", None, False, []):
            found.append(f"{at}.{key}: is {value[key]!r} and not omitted")
        else:
            found += differences(inner, value[key], f"{at}.{key}")
    return found


def read_as(kind: str, reply: Reply) -> object:
    """The body as a shape looks at it: JSON, NDJSON as a list, or text, by its content type."""
    kind = kind.partition(";")[0]
    if kind == "application/json" and reply.body:  # none of HEAD
        return json.loads(reply.body)
    if kind == NDJSON:
        return [json.loads(line) for line in reply.text.splitlines()]
    return reply.text


@dataclass(frozen=True, slots=True)
class Case:
    """A request and its promise.

    Attributes:
        command: What somebody typed to have it sent.
        request: Method and target.
        status: What is answered; several where the contract leaves it open.
        given: What has to be so before, in this order.
        replied: Headers of the answer; None: it has none of that name.
        shape: The body.
        until: The answer goes on; it is read until this came.
        is_streamed: Pieces come as the function yields them.
        waits_for: Why it is skipped, for as long as that is not there.
    """

    command: str
    request: str
    status: int | tuple[int, ...]
    given: tuple[Callable[..., object], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    replied: Mapping[str, object] = field(default_factory=dict)
    shape: object = ""
    until: bytes | None = None
    is_streamed: bool = False
    waits_for: str = ""

    def __str__(self) -> str:
        return f"{self.command}: {self.request}"

    @property
    def statuses(self) -> tuple[int, ...]:
        return self.status if isinstance(self.status, tuple) else (self.status,)
