"""Makes a queued call through the edge, on its private socket, so that it is a run like any other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from tailrace.queue import private
from tailrace.queue.calls import INLINE_BYTES, Outcome, QueuedCall
from tailrace.queue.policy import Policy
from tailrace.runs.keeper import Runs
from tailrace.runs.record import Record

# Of an answer that says what of a call was wrong so much is kept.
WORDS_BYTES = 4096
_INTERNAL = b"x-openfaas-internal"
# What describes the connection to the worker, not the answer.
_NOT_KEPT = frozenset(
    (
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"transfer-encoding",
        b"x-call-id",
        b"x-start-time",
    )
)


class Caller(Protocol):
    """Who makes calls: the gateway itself, or a worker that asks a gateway."""

    async def call(self, call: QueuedCall, body: bytes, policy: Policy) -> Outcome:
        """Make the call once, unless nothing is to be tried any more.

        Raises:
            RunsUnavailable: what became of it cannot be read now.
            GatewayUnreachable: there is no gateway to ask.
        """


class EdgeCaller:
    """Calls over the socket that `listener.listen_private` listens on. The edge's clocks hold for them."""

    def __init__(self, runs: Runs, socket: str) -> None:
        self._runs = runs
        self._socket = socket

    async def call(self, call: QueuedCall, body: bytes, policy: Policy) -> Outcome:
        """Make the call once, unless somebody else is making it or it must not be tried again."""
        record = await self._runs.tries.settled(call.run)
        if record is not None and record.is_over:
            return _after(record)
        if record is not None and record.gateway:
            return Outcome(record.state, is_busy=True, tries=record.tries)
        if record is not None and _is_spent(record, policy):  # whoever tried it last could not say so
            return _after(record)
        answer = await self._ask(call, body, policy.codes)
        # What was refused before anything was begun counts as a try too, or it might go on for ever.
        tries = (record.tries if record is not None else 0) + 1
        record = await self._runs.tries.settled(call.run)
        if record is not None and record.gateway and not record.is_over:
            return Outcome(record.state, is_busy=True, tries=tries)  # its end is not written yet: look again
        return _joined(answer, record, tries)

    async def _ask(self, call: QueuedCall, body: bytes, codes: Collection[int]) -> Outcome:
        target = f"/function/{call.function}{call.target}".encode("latin-1")
        lines = [*call.headers, ("X-Call-Id", call.run)]
        if not any(name.lower() == "host" for name, _ in call.headers):
            lines.append(("Host", "gateway"))
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        try:
            async with private.post(self._socket, target, headers, body) as answer:
                return await _read(answer, codes)
        except private.CallBroke as broke:
            return Outcome("", error=f"the call broke: {broke}")


async def _read(answer: private.Answer, codes: Collection[int]) -> Outcome:
    """The answer to its end; its words where it says what of the call was wrong."""
    head = answer.head
    status, is_ours = head.status, bool(head.get(_INTERNAL))
    kept, error = bytearray(), ""
    try:
        async for chunk in answer.body:
            room = INLINE_BYTES - len(kept)
            if room > 0 and (status in codes or is_ours or status >= 400):
                kept += chunk[:room]
    except private.CallBroke as broke:
        error = f"the answer broke: {broke}"
    sent = [(line.sent_name, line.value) for line in head.lines if line.name not in _NOT_KEPT]
    if is_ours:
        error = bytes(kept[:WORDS_BYTES]).decode("utf-8", "replace").strip()
    return Outcome(
        "", status=status, is_ours=is_ours, error=error,
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in sent),
        body=bytes(kept), retry_after=head.get(b"retry-after").decode("latin-1"),
    )  # fmt: skip


def _is_spent(record: Record, policy: Policy) -> bool:
    return record.tries >= policy.attempts or (record.events > 0 and not policy.after_first_byte)


def _after(record: Record) -> Outcome:
    is_begun = bool(record.events or record.bytes)
    return Outcome(
        record.state, status=record.status, is_begun=is_begun, tries=record.tries, reason=record.end_reason,
        error=record.error,
    )  # fmt: skip


def _joined(answer: Outcome, record: Record | None, tries: int) -> Outcome:
    """What the answer says and what the record does."""
    if record is None:
        return replace(answer, tries=tries)
    found = _after(record)
    return replace(
        answer, state=found.state, is_begun=found.is_begun, tries=max(found.tries, tries),
        reason=found.reason, error=found.error or answer.error,
    )  # fmt: skip
