"""The wiring page: every object of one gateway is built here, in the order a reader needs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from tailrace.build.builder import Builder, read_payload_secret
from tailrace.build.sealed import open_box_key
from tailrace.control.app import build_app
from tailrace.control.guard import Auth, open_auth
from tailrace.control.metrics.app import Metrics, serving_metrics
from tailrace.control.metrics.catalogue import FAMILIES
from tailrace.control.metrics.snapshot import take_snapshot
from tailrace.control.parts import Parts
from tailrace.control.scheduled import calling_on_schedule
from tailrace.control.serve import serving
from tailrace.edge.calllog import CallLog, Sink
from tailrace.edge.certificate import Certificate, open_certificate
from tailrace.edge.listener import listen
from tailrace.edge.numbers import Numbers
from tailrace.edge.plane import Edge
from tailrace.edge.proxies import Proxies
from tailrace.errors import NotAllowed
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.functions.table import Table
from tailrace.ports import LOOPBACK_HOSTS, bind_tcp, listening_socket
from tailrace.provider.contract import Address
from tailrace.provider.process.provider import ProcessProvider
from tailrace.queue.numbers import QueueNumbers
from tailrace.queue.opening import open_queue, working_here
from tailrace.queue.worker import Worker
from tailrace.runs.numbers import RunNumbers
from tailrace.runs.opening import open_runs
from tailrace.settings import Settings
from tailrace.state import State, open_state

# What a worker may take to write down what became of its last calls.
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is running.

    Attributes:
        url: Where it answers, with the port it really has.
        admin_token: A bearer token that only this process knows; accepted when auth is on.
        new_password: The admin's password if this start made it; shown once, kept nowhere.
        logs: What functions write.
        edge: The data plane; its settings are those in force.
        metrics: Where they are served.
    """

    url: str
    admin_token: str
    new_password: str | None
    logs: LogStore
    table: Table
    edge: Edge
    certificate: Certificate | None
    metrics: Metrics
    call_log: CallLog
    # None where calls of queues are made elsewhere.
    worker: Worker | None

    @property
    def open_calls(self) -> int:
        """Calls of functions that are not over."""
        return self.edge.open_calls

    async def drain(self) -> int:
        """Accept nobody new and let running calls finish, up to ``drain_s``; how many were ended then."""
        before = self._ended_by_drain()
        if self.worker is not None:
            self.worker.stop()
        await self.edge.drain(self.edge.settings.drain_s)
        if self.worker is not None:
            await self.worker.wait_idle(SETTLE_S)
        return self._ended_by_drain() - before

    def reload(self, settings: Settings) -> None:
        """Put settings in force, while calls run. Those that need a restart must be the old ones.

        Raises:
            InvalidRequest: the certificate's files cannot be used; nothing has changed then.
        """
        if self.certificate is not None:
            self.certificate.reload()
        self.call_log.set_form(settings.log_format)
        self.edge.proxies = Proxies(settings.proxies)
        self.edge.settings = settings
        if self.edge.runs is not None:
            self.edge.runs.settings = settings

    def _ended_by_drain(self) -> int:
        return sum(numbers.ends["drain"] for numbers in self.edge.numbers.functions.values())


def _nowhere(_: bytes) -> bool:
    return True


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings, *, persistent: bool, calls: Sink = _nowhere, may_move_metrics: bool = False
) -> AsyncIterator[Gateway]:
    """A gateway with process replicas, running while the context is open. Leaving stops everything.

    Args:
        persistent: Restore the deployments of the last run and save new ones.
        calls: Takes the lines of the call log.
        may_move_metrics: Serve the metrics on a free port when theirs is taken.
    Raises:
        NotAllowed: an address other than loopback without auth.
        AddressTaken: the port, or that of the metrics, belongs to another process.
        InvalidRequest: the host is no address of this machine, the socket handed in does not listen, or
            the certificate cannot be used.
        PlatformError: the payload secret or the admin's credential files cannot be used.
        StateTaken: another gateway owns the state directory.
        RunsUnavailable: no NATS answers at ``nats_url``.
    """
    certificate = open_certificate(settings)
    async with contextlib.AsyncExitStack() as stack:
        state = stack.enter_context(open_state(settings.state_dir))
        sock = stack.enter_context(open_socket(settings))
        auth, new_password = _open_auth(settings)

        logs = LogStore(settings.log_lines)
        provider = ProcessProvider(state, settings=settings, log=logs.write, persistent=persistent)
        stack.push_async_callback(provider.aclose)
        table, numbers, run_numbers, queue_numbers = Table(), Numbers(), RunNumbers(), QueueNumbers()
        metrics = await stack.enter_async_context(
            serving_metrics(
                settings.metrics_port,
                lambda: take_snapshot(numbers, table, run_numbers, queue_numbers),
                FAMILIES,
                may_move=may_move_metrics,
            )
        )
        runs = await stack.enter_async_context(open_runs(settings, state.path, run_numbers))
        own = state.sockets / "calls.sock"  # for the calls that the gateway makes itself
        queue = await stack.enter_async_context(open_queue(runs, settings, state.path, own, queue_numbers))
        reconciler = Reconciler(table, provider, logs)
        stack.push_async_callback(reconciler.aclose)

        parts = Parts(
            settings, table, reconciler, provider, provider.bundles, logs, provider.prune, time.monotonic,
            runs, _open_builder(settings, state, provider), queue,
        )  # fmt: skip
        control = state.sockets / "control.sock"
        await stack.enter_async_context(serving(build_app(parts, auth), control))
        stack.callback(metrics.stop)

        stack.callback(reconciler.release_waiters)
        call_log = CallLog(settings.log_format, calls, numbers, asyncio.get_running_loop())
        stack.callback(call_log.close)
        edge = Edge(
            table, settings, Address(path=str(control)), numbers=numbers, log=call_log,
            proxies=Proxies(settings.proxies), runs=runs,
        )  # fmt: skip
        stack.push_async_callback(edge.aclose)
        await reconciler.restore()
        if settings.fd is not None:
            await _wait_settled(table, settings.load_timeout_s)
        url = _url(sock, "https" if certificate else "http")
        await listen(edge, sock, tls=certificate.context if certificate else None)
        await stack.enter_async_context(calling_on_schedule(edge, logs, own))
        worker = await stack.enter_async_context(working_here(queue, table, lambda: edge.settings))
        stack.enter_context(calm_collector())
        token = auth.token if auth else ""
        yield Gateway(url, token, new_password, logs, table, edge, certificate, metrics, call_log, worker)


def _open_auth(settings: Settings) -> tuple[Auth | None, str | None]:
    if not settings.auth:
        return None, None
    is_chosen = settings.sources["secret_mount_path"] != "default"  # noqa: S105  # a setting's name
    return open_auth(settings.state_dir, settings.secret_mount_path, is_chosen=is_chosen)


def _open_builder(settings: Settings, state: State, provider: ProcessProvider) -> Builder | None:
    if settings.payload_secret_file is None:
        return None
    secret = functools.partial(read_payload_secret, settings.payload_secret_file)
    secret()  # one that cannot be used is told at the start, not at the first build
    return Builder(
        state.builds,
        bundles=provider.bundles,
        install=provider.install,
        key=open_box_key(state.path),
        secret=secret,
        limit_bytes=settings.build_limit,
        bundle_limit_bytes=settings.bundle_limit,
    )


@contextlib.contextmanager
def calm_collector() -> Iterator[None]:
    """Keep the cyclic collector from walking all that has been loaded, and from looking every 700 objects.

    A call makes no reference cycles, so what the collector finds is little; with thousands of open streams
    one walk over all of them stops every stream for tens of milliseconds.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def open_socket(settings: Settings) -> socket.socket:
    """The socket to accept on: the one that was handed in, or a new one on host and port.

    Raises:
        NotAllowed: it is reachable from elsewhere, and auth is off.
        AddressTaken: the port belongs to another process.
        InvalidRequest: the host is no address of this machine, or what was handed in does not listen.
    """
    if settings.fd is None:
        check_exposure(settings, settings.host)
        return bind_tcp(settings.host, settings.port)
    sock = listening_socket(settings.fd)
    try:
        if sock.family != socket.AF_UNIX:
            check_exposure(settings, sock.getsockname()[0])
    except NotAllowed:
        sock.close()
        raise
    return sock


def check_exposure(settings: Settings, host: str) -> None:
    """Refuse to be reachable from elsewhere without auth.

    Raises:
        NotAllowed: the host is not loopback and auth is off.
    """
    if not settings.auth and host not in LOOPBACK_HOSTS:
        raise NotAllowed(
            f"listening on {host} without auth could let anybody deploy code here",
            hint="Add --auth, or listen on 127.0.0.1, localhost or ::1.",
        )


async def _wait_settled(table: Table, timeout_s: float) -> None:
    """Wait until each function that was restored is ready or has failed once; at most so long in all.

    A socket that was handed in keeps clients waiting meanwhile, without bound; in here each function would
    hold as many as its queue takes, for the length of the queue clock, and refuse the others.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            for function in table:
                await function.settled.wait()


def _url(sock: socket.socket, scheme: str) -> str:
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
