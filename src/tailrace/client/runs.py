"""Runs: look them up, list, watch and stop them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import msgspec

from tailrace.client.connection import CONNECT_TIMEOUT_S, Connection, decode, talking
from tailrace.errors import InvalidRequest, ReplicaFailed
from tailrace.names import FunctionName


class RunUsage(msgspec.Struct, frozen=True):
    """Tokens; ``estimated``: counted by events, because nobody told them."""

    output_tokens: int
    input_tokens: int | None = None
    estimated: bool = False


class RunRecord(msgspec.Struct, frozen=True):
    """A run as the API shows it; instants are RFC 3339. See docs/reference/api.md."""

    id: str
    function: str
    state: str
    created_at: str
    started_at: str | None = None
    first_content_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    status: int | None = None
    bytes: int = 0
    events: int = 0
    end_reason: str = ""
    error: str = ""
    is_async: bool = msgspec.field(default=False, name="async")
    truncated: bool = False
    unrecorded: str = ""
    usage: RunUsage | None = None
    expired: bool = False


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, and where the next ones are; an empty ``cursor``: there are no more."""

    runs: list[RunRecord]
    cursor: str = ""


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
