"""What the queue keeps: a call that waits, a result to deliver, a dead letter; and where. Pure.

tailrace.queue.QUEUE.NAME.NAMESPACE.RUN   a call that waits
tailrace.callback.RUN                     a result that is to be delivered
tailrace.bodies.RUN                       pieces of a body that is too large for its call's message
tailrace.dead.KIND.RUN                    what was given up
tailrace.queued                           told to all workers: QUEUE NAME.NAMESPACE has something
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

CALL_SUBJECTS = "tailrace.queue.*.*.*.*"
CALLBACK_SUBJECTS = "tailrace.callback.*"
BODY_SUBJECTS = "tailrace.bodies.*"
DEAD_SUBJECTS = "tailrace.dead.*.*"
NOTICE_SUBJECT = "tailrace.queued"
# The consumer that hands out results to deliver.
CALLBACKS = "callbacks"
# A larger body is kept beside its call, in pieces well below NATS's usual largest message, 1 MiB.
INLINE_BYTES = 256 * 1024
PIECE_BYTES = 512 * 1024

Kind = Literal["call", "callback"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call that waits.

    Attributes:
        function: ``name.namespace``.
        target: What follows the function's name in the path, with the query; begins with ``/``.
        headers: As they came, without those of the connection.
        body: The whole body; empty when it is kept in ``pieces``.
        size: The body's length, wherever it is kept.
        callback_url: Where its result goes; empty: nowhere.
        accepted_at: Seconds since 1970.
        start_ns: The same as the 202 said it: nanoseconds, more than a float can tell; 0: none was said.
        drive: A number of its own for each time that it is put into the queue.
        turn: 1, and one more for each time that it was taken out of the dead letters: each has an outcome.
    """

    run: str
    function: str
    queue: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    pieces: int = 0
    size: int = 0
    callback_url: str = ""
    accepted_at: float = 0.0
    drive: int = 0
    turn: int = 1
    start_ns: int = 0


@dataclass(frozen=True, slots=True)
class Callback:
    """A result that is to be delivered.

    Attributes:
        since: From when on it is tried, seconds since 1970.
        tries_limit: How often its call may have been tried.
        drive: A number of its own for each time that it is put into the queue.
        turn: Whose outcome it is: that of this turn of its call.
        start_ns: The call's.
    """

    run: str
    function: str
    queue: str
    url: str
    since: float
    tries_limit: int = 0
    drive: int = 0
    turn: int = 1
    start_ns: int = 0

    @property
    def delivery(self) -> str:
        """The outcome's name, the same however often it is sent. A call's id has no dash."""
        return f"{self.run}-{self.turn}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What was given up: a call, or the delivery of a result."""

    kind: Kind
    run: str
    function: str
    queue: str
    reason: str
    error: str
    tries: int
    died_at: float
    call: QueuedCall | None = None
    callback: Callback | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try of a call.

    Attributes:
        state: The run's afterwards; empty: there is none.
        status: Of the answer; 0: the connection broke before one came.
        is_ours: Whether the answer is the platform's, not the function's.
        is_begun: Whether the function has answered something that is in the run.
        is_busy: Somebody else makes the call now; nothing was tried.
        tries: How often it was tried, this one counted.
        headers, body: Of an answer that is not in the run, as far as it may be needed.
    """

    state: str
    status: int = 0
    is_ours: bool = False
    is_begun: bool = False
    is_busy: bool = False
    tries: int = 0
    reason: str = ""
    error: str = ""
    retry_after: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One function's calls in one queue.

    Attributes:
        pending: How many wait.
        handed_out: How many are handed out, or wait for a next try.
        pulls: How many questions for more are open: a worker serves it now.
    """

    queue: str
    function: str
    pending: int
    handed_out: int
    pulls: int = 0


def call_subject(queue: str, function: str, run: str) -> str:
    """Where a call waits. ``*`` stands for any."""
    return f"tailrace.queue.{queue}.{function}.{run}"


def callback_subject(run: str) -> str:
    """Where a result waits."""
    return f"tailrace.callback.{run}"


def body_subject(run: str) -> str:
    """Where a large body is."""
    return f"tailrace.bodies.{run}"


def dead_subject(kind: str, run: str) -> str:
    """Where a dead letter is."""
    return f"tailrace.dead.{kind}.{run}"


def consumer_name(queue: str, function: str) -> str:
    """The consumer that hands out one function's calls of one queue."""
    return f"{queue}_{function.replace('.', '_')}"


def parse_consumer(filter_subject: str) -> tuple[str, str] | None:
    """Queue and function that a consumer's filter means; None: it is another kind."""
    parts = filter_subject.split(".")
    if len(parts) != 6 or parts[:2] != ["tailrace", "queue"]:
        return None
    return parts[2], f"{parts[3]}.{parts[4]}"


def encode(value: object) -> bytes:
    """As it is stored."""
    return msgspec.msgpack.encode(value)


def decode(data: bytes, kind: type[T]) -> T | None:
    """What was stored; None for what is none."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
