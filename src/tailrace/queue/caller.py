"""Makes a queued call through the edge, on its private socket, so that it is a run like any other."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

import httpx

from tailrace.queue.calls import INLINE_BYTES, Outcome, QueuedCall
from tailrace.queue.policy import Policy
from tailrace.runs.keeper import Runs
from tailrace.runs.record import Record

# Of an answer that says what of a call was wrong so much is kept.
WORDS_BYTES = 4096
_INTERNAL = "X-OpenFaaS-Internal"
# What describes the connection to the worker, not the answer.
_NOT_KEPT = frozenset(
    ("connection", "content-length", "date", "keep-alive", "transfer-encoding", "x-call-id", "x-start-time")
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
    """Calls over the socket that `listener.listen_private` listens on. `aclose` closes its connections."""

    def __init__(self, runs: Runs, socket: str) -> None:
        self._runs = runs
        self._socket = socket
        # One for each call at once: a pool of many connections looks at all of them for each request.
        self._free: list[httpx.AsyncClient] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; the default one takes 20 ms

    async def aclose(self) -> None:
        """Close the connections; calls that run are left alone, as their annotations say."""
        while self._free:
            await self._free.pop().aclose()

    def _open(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=self._socket, verify=self._tls)
        # The edge's clocks hold for these calls too, so there are none here.
        client = httpx.AsyncClient(transport=transport, timeout=None, trust_env=False)  # noqa: S113
        for name in list(client.headers):
            del client.headers[name]  # the function sees what its caller sent, and no more
        return client

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
        client = self._free.pop() if self._free else self._open()
        try:
            return await _ask(client, call, body, codes)
        finally:
            self._free.append(client)


async def _ask(client: httpx.AsyncClient, call: QueuedCall, body: bytes, codes: Collection[int]) -> Outcome:
    target = f"/function/{call.function}{call.target}".encode("latin-1")
    lines = [*call.headers, ("X-Call-Id", call.run)]
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    # The target as it was sent: a URL's parser would write it anew.
    request = client.build_request(
        "POST", "http://gateway/", headers=headers, content=body, extensions={"target": target}
    )
    try:
        reply = await client.send(request, stream=True)
    except httpx.HTTPError as failed:
        return Outcome("", error=f"the call broke: {failed or type(failed).__name__}")
    status, is_ours = reply.status_code, _INTERNAL in reply.headers
    kept, error = bytearray(), ""
    try:
        async for chunk in reply.aiter_raw():
            room = INLINE_BYTES - len(kept)
            if room > 0 and (status in codes or is_ours or status >= 400):
                kept += chunk[:room]
    except httpx.HTTPError as failed:
        error = f"the answer broke: {failed or type(failed).__name__}"
    finally:
        await reply.aclose()
    headers_kept = tuple((k, v) for k, v in reply.headers.multi_items() if k.lower() not in _NOT_KEPT)
    if is_ours:
        error = bytes(kept[:WORDS_BYTES]).decode("utf-8", "replace").strip()
    return Outcome(
        "", status=status, is_ours=is_ours, error=error, headers=headers_kept, body=bytes(kept),
        retry_after=reply.headers.get("Retry-After", ""),
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
