"""What functions wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from tailrace.client.connection import (
    CONNECT_TIMEOUT_S,
    REPLY_TIMEOUT_S,
    Connection,
    decode,
    read_lines,
    talking,
)
from tailrace.names import FunctionName
from tailrace.wire import openfaas


class Logs(Connection):
    """The logs of a gateway's functions."""

    async def follow_logs(
        self,
        name: FunctionName,
        *,
        since: str = "",
        tail: int | None = None,
        instance: str = "",
        is_following: bool = False,
    ) -> AsyncIterator[openfaas.LogMessage]:
        """What the function wrote, oldest first, and then, on request, what it writes.

        Args:
            since: RFC 3339; empty for everything that is kept.
            tail: At most so many of the kept lines; None for all.
            instance: Only this replica's; empty for all.
        """
        query = {"name": name.name, "namespace": name.namespace, "follow": str(is_following).lower()}
        query |= {"since": since} if since else {}
        query |= {"tail": str(tail)} if tail is not None else {}
        query |= {"instance": instance} if instance else {}
        read_s = None if is_following else REPLY_TIMEOUT_S
        timeout = httpx.Timeout(REPLY_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=read_s)
        with talking(self.url):
            request = self.http.stream(
                "GET", "/system/logs", params=query, headers=self.auth, timeout=timeout
            )
            async with request as reply:
                await self.check(reply)
                async for line in read_lines(reply):
                    yield decode(line, openfaas.LogMessage)
