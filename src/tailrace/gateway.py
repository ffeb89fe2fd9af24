"""The wiring page: every object of one gateway is built here, in the order a reader needs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tailrace.control.app import build_app
from tailrace.control.guard import open_auth
from tailrace.control.parts import Parts
from tailrace.control.serve import serving
from tailrace.edge.listener import listen
from tailrace.edge.plane import Edge
from tailrace.errors import NotAllowed
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.functions.table import Table
from tailrace.ports import bind_tcp
from tailrace.provider.contract import Address
from tailrace.provider.process.provider import ProcessProvider
from tailrace.settings import Settings
from tailrace.state import open_state

# The names the control plane answers to without auth; a gateway on another one could not be deployed to.
OPEN_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is running.

    Attributes:
        url: Where it answers, with the port it really has.
        admin_token: A bearer token that only this process knows; accepted when auth is on.
        new_password: The admin's password if this start made it; shown once, kept nowhere.
        logs: What functions write.
    """

    url: str
    admin_token: str
    new_password: str | None
    logs: LogStore
    table: Table


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings, *, persistent: bool) -> AsyncIterator[Gateway]:
    """A gateway with process replicas, running while the context is open. Leaving stops everything.

    Args:
        persistent: Restore the deployments of the last run and save new ones.
    Raises:
        NotAllowed: an address other than loopback without auth.
        AddressTaken: the port belongs to another process.
        StateTaken: another gateway owns the state directory.
    """
    check_exposure(settings)
    async with contextlib.AsyncExitStack() as stack:
        state = stack.enter_context(open_state(settings.state_dir))
        sock = bind_tcp(settings.host, settings.port)
        stack.callback(sock.close)
        auth, new_password = open_auth(settings.state_dir) if settings.auth else (None, None)

        logs = LogStore(settings.log_lines)
        provider = ProcessProvider(state, settings=settings, log=logs.write, persistent=persistent)
        stack.push_async_callback(provider.aclose)
        table = Table()
        reconciler = Reconciler(table, provider, logs)
        stack.push_async_callback(reconciler.aclose)

        parts = Parts(
            settings, table, reconciler, provider, provider.bundles, logs, provider.prune, time.monotonic
        )
        control = state.sockets / "control.sock"
        await stack.enter_async_context(serving(build_app(parts, auth), control))

        stack.callback(reconciler.release_waiters)
        edge = Edge(table, settings, Address(path=str(control)))
        stack.push_async_callback(edge.aclose)
        await reconciler.restore()
        host, port = sock.getsockname()[:2]
        await listen(edge, sock)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        yield Gateway(url, auth.token if auth else "", new_password, logs, table)


def check_exposure(settings: Settings) -> None:
    """Refuse to be reachable from elsewhere without auth.

    Raises:
        NotAllowed: the host is not loopback and auth is off.
    """
    if not settings.auth and settings.host not in OPEN_HOSTS:
        raise NotAllowed(
            f"listening on {settings.host} without auth could let anybody deploy code here",
            hint="Add --auth, or listen on 127.0.0.1, localhost or ::1.",
        )
