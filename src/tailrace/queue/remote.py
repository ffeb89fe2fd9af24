"""A worker apart from the gateway: it asks a gateway to make the calls, and which functions there are."""

from __future__ import annotations

import time

import msgspec

from tailrace.client import Client
from tailrace.errors import InvalidDeployment, NotFound
from tailrace.names import parse_function_name
from tailrace.options import read_options
from tailrace.queue.calls import Outcome, QueuedCall, encode
from tailrace.queue.policy import Policy, Task
from tailrace.queue.served import Served

# What is known of a function is believed for so long.
FRESH_S = 3.0


class RemoteCaller:
    """Has calls made by a gateway."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, call: QueuedCall, body: bytes, policy: Policy) -> Outcome:
        """As the protocol says."""
        task = encode(Task(call, body, policy))
        return msgspec.json.decode(await self._client.make_queued_call(task), type=Outcome)


class RemoteFunctions:
    """The functions of a gateway."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, tuple[float, Served | None]] = {}

    async def find(self, name: str) -> Served | None:
        """As the protocol says."""
        now = time.monotonic()
        at, served = self._known.get(name, (0.0, None))
        if name not in self._known or now - at > FRESH_S:
            served = await self._ask(name)
            self._known[name] = now, served
        return served

    async def _ask(self, name: str) -> Served | None:
        parsed = parse_function_name(name)
        if parsed is None:
            return None
        try:
            status = await self._client.get_function(parsed)
            options = read_options(status.annotations or {}, status.labels or {}, status.env_vars or {})
        except (NotFound, InvalidDeployment):
            return None
        return Served(options.retries, options.concurrency * max(1, status.replicas))
