"""Delivers results: a POST to the callback's URL with OpenFaaS's headers, signed, tried again for a while.

Source: contract section 7, for the headers.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import httpx

from tailrace import __version__
from tailrace.errors import CallerError, NotAllowed
from tailrace.queue import signing
from tailrace.queue.calls import Callback, DeadLetter
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.places import Places
from tailrace.queue.policy import Policy, read_retry_after, wait_s
from tailrace.queue.streams import Streams
from tailrace.queue.targets import Target, check_addresses, read_target
from tailrace.retries import DEFAULT_CODES
from tailrace.runs.marks import Head
from tailrace.runs.pieces import Unpacker
from tailrace.runs.record import Record
from tailrace.settings import Settings

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
CONNECT_S = 10.0
REDIRECTS = 5
# Those that keep method and body. Source: RFC 9110 section 15.4.
_FOLLOWED = (307, 308)
# From this, doubled, to that, with full jitter.
MIN_WAIT_S, MAX_WAIT_S = 1.0, 60.0
_WAITS = Policy(1, DEFAULT_CODES, MIN_WAIT_S, MAX_WAIT_S, after_first_byte=False)
# A run whose result cannot be read is told as this.
_LOST_STATUS = 502
# The function's own that say nothing of the body, or would say something wrong of ours.
_NOT_SENT = frozenset(
    ("connection", "content-length", "date", "host", "keep-alive", "te", "trailer", "transfer-encoding")
)
# What the platform says of a call. Of a function they would forge an outcome, or its signature.
_OURS = frozenset(
    (
        "x-call-id",
        "x-duration-seconds",
        "x-function-name",
        "x-function-status",
        "x-retry",
        "x-retry-max",
        "x-start-time",
    )
)


@dataclass(frozen=True, slots=True)
class Result:
    """What is delivered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Refused(Exception):
    """The receiver did not take it. ``is_final``: it never will."""

    def __init__(self, why: str, *, is_final: bool, retry_after: str = "") -> None:
        super().__init__(why)
        self.is_final = is_final
        self.retry_after = retry_after


class FindAddress(Protocol):
    """Where a host is."""

    async def __call__(self, target: Target, *, allow_private: bool) -> str: ...


class Delivery:
    """One worker's way with results. `aclose` closes its connections.

    Args:
        secret: What they are signed with.
        find: Looks a host's address up, and refuses what it may not be; None: `find_address`.
    """

    def __init__(
        self, streams: Streams, secret: bytes, settings: Callable[[], Settings], numbers: QueueNumbers, *,
        find: FindAddress | None = None,
    ) -> None:  # fmt: skip
        self._streams = streams
        self._secret = secret
        self._settings = settings
        self._numbers = numbers
        self._find: FindAddress = find or find_address
        self._http: httpx.AsyncClient | None = None
        self._places = Places()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def deliver(self, callback: Callback, tries: int, now: float) -> float | None:
        """Try once; when to try again, in seconds, or None: it is delivered, or given up.

        Where its receiver's host has no place free it is not tried, and that does not count as a try.

        Args:
            tries: How often it was handed out, this time counted.
        Raises:
            RunsUnavailable: JetStream does not answer; it is to be handed out again.
        """
        name = f"{callback.run}-{callback.drive}"
        record = await self._streams.store.find_record(callback.run)
        with self._places.take(_host_of(callback.url), record.bytes if record is not None else 0) as is_free:
            if not is_free:
                return self._places.hand_back(name)
            again_s = await self._try(callback, self._places.tries_of(name, tries), now)
        if again_s is None:
            self._places.forget(name)
        return again_s

    async def _try(self, callback: Callback, tries: int, now: float) -> float | None:
        result = await self._result(callback)
        settings = self._settings()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._send(callback, result, allow_private=settings.callback_allow_private)
        except (Refused, CallerError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failed:
            why = f"{failed}" or type(failed).__name__
            self._numbers.callback_failures += 1
            is_final = isinstance(failed, CallerError | httpx.InvalidURL)
            is_final = is_final or (isinstance(failed, Refused) and failed.is_final)
            if not is_final and now - callback.since < settings.callback_patience_s:
                asked = failed.retry_after if isinstance(failed, Refused) else ""
                logger.info("the result of call %s is not delivered yet: %s", callback.run, why)
                return wait_s(_WAITS, tries, read_retry_after(asked, now), random.random())  # noqa: S311
            await self._bury(callback, tries, why)
        else:
            self._numbers.delivered += 1
        return None

    async def _bury(self, callback: Callback, tries: int, why: str) -> None:
        letter = DeadLetter(
            "callback", callback.run, callback.function, callback.queue, "callback_failed", why, tries,
            time.time(), callback=callback,
        )  # fmt: skip
        await self._streams.bury(letter)
        self._numbers.dead += 1
        logger.warning("the result of call %s is a dead letter: %s", callback.run, why)

    # What is sent.

    async def _result(self, callback: Callback) -> Result:
        store = self._streams.store
        record = await store.find_record(callback.run)
        unpacker, head, body = Unpacker(), None, bytearray()
        async for kept in store.read_events(callback.run):
            told = unpacker.feed(kept.data)
            if isinstance(told, Head):  # the next try's answer begins
                head, body = told, bytearray()
            elif isinstance(told, list):
                body += b"".join(told)
        status = head.status if head is not None else 0
        headers = [(k, v) for k, v in head.headers if _is_functions(k)] if head is not None else []
        if record is not None and record.state != "done":
            status = record.status if record.status >= 400 else _LOST_STATUS
            headers.append(("X-Tailrace-Error", _header_text(f"{record.end_reason}: {record.error}")))
            if head is None:
                headers.append(("Content-Type", "text/plain; charset=utf-8"))
                body += f"{record.error}\n".encode()
        if record is None or record.is_truncated or record.unrecorded or record.expired_at is not None:
            headers.append(("X-Tailrace-Truncated", "true"))
        return Result(status or _LOST_STATUS, headers + _of_call(callback, record), bytes(body))

    def _signed(self, callback: Callback, result: Result) -> list[tuple[str, str]]:
        timestamp = int(time.time())
        signature = signing.sign(
            self._secret, timestamp=timestamp, delivery=callback.delivery, status=result.status,
            body=result.body,
        )  # fmt: skip
        return [
            *result.headers,
            ("X-Function-Status", str(result.status)),
            (signing.DELIVERY, callback.delivery),
            (signing.TIMESTAMP, str(timestamp)),
            (signing.SIGNATURE, signature),
        ]

    async def _send(self, callback: Callback, result: Result, *, allow_private: bool) -> None:
        """Send it, through redirects that keep method and body, to addresses that were looked at."""
        url = callback.url
        for _ in range(REDIRECTS + 1):
            target = read_target(url, allow_private=allow_private)
            reply = await self._post(target, callback, result, allow_private=allow_private)
            status = reply.status_code
            if 200 <= status < 300:
                return
            if status not in _FOLLOWED:
                is_final = status not in DEFAULT_CODES and status < 500
                raise Refused(
                    f"{target.authority} answered {status}", is_final=is_final,
                    retry_after=reply.headers.get("Retry-After", ""),
                )  # fmt: skip
            url = str(httpx.URL(url).join(reply.headers.get("Location", "")))
        raise Refused(f"more than {REDIRECTS} redirects", is_final=True)

    async def _post(
        self, target: Target, callback: Callback, result: Result, *, allow_private: bool
    ) -> httpx.Response:
        address = await self._find(target, allow_private=allow_private)
        if self._http is None:
            # No proxy of the environment: it would resolve the name anew, past what was looked at.
            self._http = httpx.AsyncClient(
                trust_env=False, verify=ssl.create_default_context(), follow_redirects=False,
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S),
                headers={"User-Agent": f"tailrace/{__version__}"},
                # A connection is one host's, whose certificate was looked at; two may share an address.
                limits=httpx.Limits(max_keepalive_connections=0),
            )  # fmt: skip
        lines = [("Host", target.authority), *self._signed(callback, result)]
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        request = self._http.build_request(
            "POST", target.url_at(address), headers=headers, content=result.body,
            extensions={"sni_hostname": target.host},
        )  # fmt: skip
        reply = await self._http.send(request, stream=True)
        await reply.aclose()  # what it says is of no use to anybody
        return reply


async def find_address(target: Target, *, allow_private: bool) -> str:
    """An address of the host; all of them were looked at, and this very one is connected to.

    Raises:
        NotAllowed: one of them is not public.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    check_addresses(target, addresses, allow_private=allow_private)
    if not addresses:
        raise NotAllowed(f"'{target.host}' has no address")
    return addresses[0]


def _is_functions(name: str) -> bool:
    """Whether a header is the function's to send. WSGI cannot tell ``X_Call_Id`` from ``X-Call-Id``."""
    plain = name.lower().replace("_", "-")
    return not (plain in _NOT_SENT or plain in _OURS or plain.startswith("x-tailrace-"))


def _of_call(callback: Callback, record: Record | None) -> list[tuple[str, str]]:
    """OpenFaaS's headers."""
    headers = [("X-Call-Id", callback.run), ("X-Function-Name", callback.function)]
    start_ns = callback.start_ns or (int(record.created_at * 1e9) if record is not None else 0)
    if start_ns:
        headers.append(("X-Start-Time", str(start_ns)))
    if record is not None:
        began = record.started_at or record.created_at
        headers += [
            ("X-Duration-Seconds", f"{max(0.0, (record.ended_at or began) - began):f}"),
            ("X-Retry", str(max(0, record.tries - 1))),
            ("X-Retry-Max", str(callback.tries_limit)),
        ]
    return headers


def _host_of(url: str) -> str:
    """Host and port as they are told apart; what is no URL is refused when it is sent."""
    try:
        return read_target(url, allow_private=True).authority.lower()
    except CallerError:
        return ""


def _header_text(text: str) -> str:
    return "".join(c if " " <= c <= "~" else " " for c in text)[:500]
