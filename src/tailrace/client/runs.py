"""Runs: look them up, list, watch and stop them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from tailrace.client.connection import CONNECT_TIMEOUT_S, Connection, decode, talking
from tailrace.errors import InvalidRequest, ReplicaFailed
from tailrace.names import FunctionName
from tailrace.wire.runs import RunPage, RunRecord


class Runs(Connection):
    """The runs of a gateway, and of all that share its NATS."""

    async def get_run(self, run: str) -> RunRecord:
        """One run."""
        return decode((await self.system("GET", _path(run))).body, RunRecord)

    async def list_runs(
        self, *, function: FunctionName | None = None, state: str = "", limit: int = 50, cursor: str = ""
    ) -> RunPage:
        """Runs, the one that changed last first."""
        query = {"limit": str(limit)}
        given = {"function": str(function) if function else "", "state": state, "cursor": cursor}
        query.update({key: value for key, value in given.items() if value})
        return decode((await self.system("GET", "/runs", query=query)).body, RunPage)

    async def stop_run(self, run: str) -> RunRecord:
        """End a run; one that is over stays as it is."""
        return decode((await self.system("DELETE", _path(run))).body, RunRecord)

    @asynccontextmanager
    async def attach(self, run: str, *, after: int = 0, form: str = "") -> AsyncIterator[Attached]:
        """Watch a run's answer, from its start or after a number, until its end. Leaving stops watching."""
        query = {"after": str(after)} if after else {}
        query.update({"format": form} if form else {})
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        async with AsyncExitStack() as stack:
            with talking(self.url):
                request = self.http.stream("GET", f"{_path(run)}/stream", params=query, timeout=timeout)
                reply = await stack.enter_async_context(request)
                await self.check(reply)
            yield Attached(reply)


class Attached:
    """A run's answer as it arrives. ``is_native``: its events are those of Tailrace's own dialect."""

    def __init__(self, reply: httpx.Response) -> None:
        self._reply = reply
        self.is_native = reply.headers.get("X-Tailrace-Dialect") == "native"
        self.content_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they arrive.

        Raises:
            ReplicaFailed: they were cut: the run failed, or the connection to the gateway broke.
        """
        try:
            async for chunk in self._reply.aiter_bytes():
                yield chunk
        except (httpx.TransportError, httpx.DecodingError) as cut:
            raise ReplicaFailed("the run's answer was cut before its end") from cut


def _path(run: str) -> str:
    if not (run.isascii() and run.isalnum()):
        raise InvalidRequest(f"'{run[:40]}' is no run's id", hint="It is the X-Call-Id of an answer.")
    return f"/run/{run}"
