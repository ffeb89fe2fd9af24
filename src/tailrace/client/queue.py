"""The queue of asynchronous calls: what waits, dead letters, and what a worker asks."""

from __future__ import annotations

import httpx

from tailrace.client.connection import CONNECT_TIMEOUT_S, Connection, decode, read_lines, talking
from tailrace.errors import GatewayUnreachable, InvalidRequest
from tailrace.wire.queue import CallbackKey, DeadCall, QueueListing

# The gateway says that a call still runs every 10 s.
_SILENT_S = 45.0


class Queue(Connection):
    """The queue of a gateway, and of all that share its NATS."""

    async def get_queue(self) -> QueueListing:
        """What waits, and the dead letters."""
        return decode((await self.system("GET", "/system/queue")).body, QueueListing)

    async def get_dead(self, run: str) -> list[DeadCall]:
        """The dead letters of one call."""
        return decode((await self.system("GET", _path(run))).body, list[DeadCall])

    async def retry_dead(self, run: str) -> list[DeadCall]:
        """Have them tried again; what they were."""
        return decode((await self.system("POST", f"{_path(run)}/retry")).body, list[DeadCall])

    async def drop_dead(self, run: str) -> list[DeadCall]:
        """Forget them; what they were."""
        return decode((await self.system("DELETE", _path(run))).body, list[DeadCall])

    async def get_callback_secret(self) -> bytes:
        """The secret that results are signed with."""
        return (await self.get_callback_key()).secret.encode("latin-1")

    async def get_callback_key(self) -> CallbackKey:
        """That secret, and what tells the gateway's NATS from others."""
        return decode((await self.system("GET", "/system/queue-key")).body, CallbackKey)

    async def make_queued_call(self, task: bytes) -> bytes:
        """Have the gateway make a call of the queue; what became of it, as JSON. It takes its time.

        Raises:
            GatewayUnreachable: the gateway is gone, or went before it could tell.
        """
        timeout = httpx.Timeout(_SILENT_S, connect=CONNECT_TIMEOUT_S)
        headers = self.auth | {"Content-Type": "application/octet-stream"}
        with talking(self.url):
            request = self.http.stream(
                "POST", "/system/queue-calls", content=task, headers=headers, timeout=timeout
            )
            async with request as reply:
                await self.check(reply)
                async for line in read_lines(reply):
                    return line
        raise GatewayUnreachable(f"the gateway at {self.url} did not say what became of a call")


def _path(run: str) -> str:
    if not (run.isascii() and run.isalnum()):
        raise InvalidRequest(f"'{run[:40]}' is no call's id", hint="It is the X-Call-Id of the answer 202.")
    return f"/system/queue/{run}"
