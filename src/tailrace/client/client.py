"""The whole client: all nouns of the API on one connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tailrace.client.calls import Calls
from tailrace.client.connection import CONNECT_TIMEOUT_S, REPLY_TIMEOUT_S, decode, http_settings, talking
from tailrace.client.functions import Functions
from tailrace.client.logs import Logs
from tailrace.client.namespaces import Namespaces
from tailrace.client.queue import Queue
from tailrace.client.runs import Runs
from tailrace.client.secrets import Secrets
from tailrace.gateway_url import parse_gateway
from tailrace.wire import openfaas


class Client(Functions, Secrets, Namespaces, Logs, Calls, Runs, Queue):
    """The gateway's API as methods. Make it with `open_client`.

    Every method raises GatewayUnreachable when nobody answers, and otherwise the error of our tree that
    fits the gateway's status, with the gateway's own text.
    """

    async def info(self) -> openfaas.GatewayInfo:
        """Versions of the gateway and its provider."""
        return decode((await self.system("GET", "/system/info")).body, openfaas.GatewayInfo)

    async def is_healthy(self) -> bool:
        """Whether the gateway says that it is; no password is needed for it."""
        with talking(self.url):
            return (await self.http.get("/healthz")).status_code == 200


@asynccontextmanager
async def open_client(gateway: str, *, authorization: str = "") -> AsyncIterator[Client]:
    """A client of the gateway at this URL. Leaving the context closes its connections.

    Args:
        authorization: The value of the Authorization header for ``/system/``; a user and password in the
            URL are used when it is empty.
    Raises:
        InvalidRequest: the URL is none.
    """
    url, found = parse_gateway(gateway)
    timeout = httpx.Timeout(REPLY_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None)
    with talking(url):  # httpx has its own idea of what a host is
        http = httpx.AsyncClient(base_url=url, timeout=timeout, **http_settings(url))
    async with http:
        yield Client(http, url, authorization or found)
