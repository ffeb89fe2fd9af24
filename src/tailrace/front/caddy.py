"""Caddy in front of a gateway, for as long as a context lasts."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from tailrace.errors import AddressTaken, InvalidRequest, NotAllowed
from tailrace.front.config import Domain, Plan
from tailrace.front.process import CaddyProcess, Tell, find_caddy
from tailrace.ports import LOOPBACK_HOSTS, bind_tcp
from tailrace.settings import Settings

HTTPS_PORT = 443
HTTP_PORT = 80
_CERTIFICATE_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
# One that ran so long did not die of how it was started.
_SOUND_S = 60.0


def check_domain(settings: Settings) -> None:
    """Refuse a domain without auth, and what cannot go with one.

    Raises:
        NotAllowed: auth is off, or the gateway itself could be reached from elsewhere.
        InvalidRequest: another way to listen or to answer HTTPS is asked for too.
        PlatformError: Caddy is not installed.
    """
    if not settings.domain:
        return
    if not settings.auth:
        raise NotAllowed(
            f"answering for {settings.domain} without auth could let anybody deploy code here",
            hint="Add --auth.",
        )
    if settings.host not in LOOPBACK_HOSTS:
        raise NotAllowed(
            f"with --domain the gateway itself listens on loopback, not on {settings.host}",
            hint="Leave --host out: Caddy listens on every address.",
        )
    for name in ("tls_cert", "tls_key", "fd"):
        if getattr(settings, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise InvalidRequest(f"{flag} and --domain exclude each other", hint="Give one of them.")
    find_caddy()


@asynccontextmanager
async def in_front(settings: Settings, gateway_url: str, tell: Tell) -> AsyncIterator[str]:
    """Where clients reach the gateway: its own URL, or with a domain Caddy's, which runs until the end.

    Args:
        tell: Takes what is worth a line in the gateway's log.
    Raises:
        PlatformError: Caddy is not installed, or did not start.
        AddressTaken: a port belongs to somebody else, or this user may not have it.
    """
    if not settings.domain:
        yield gateway_url
        return
    domain = Domain.parse(settings.domain)
    with ExitStack() as sockets:
        https = sockets.enter_context(_listen(domain, HTTPS_PORT if domain.port is None else domain.port))
        redirect = sockets.enter_context(_listen(domain, HTTP_PORT)) if domain.port is None else None
        plan = Plan(
            domain,
            gateway_url.removeprefix("http://"),
            _folder(settings.state_dir),
            https.fileno(),
            redirect.fileno() if redirect else None,
            settings.header_timeout_s,
            settings.keep_alive_timeout_s * 0.8,
        )
        port = https.getsockname()[1]
        async with running_caddy(plan, tell):
            if domain.is_local:
                await _wait_certificate(domain, port)
            yield f"https://{domain.name}" if port == HTTPS_PORT else f"https://{domain.name}:{port}"


def _listen(domain: Domain, port: int) -> socket.socket:
    """A socket on every address of this machine; for a local name, on loopback."""
    host = "127.0.0.1" if domain.is_local else "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # a domain is for everybody
    try:
        return bind_tcp(host, port)
    except AddressTaken as taken:
        raise AddressTaken(
            f"{domain.name} cannot be answered for: {taken.message}",
            hint="--domain needs ports 80 and 443, which on Linux take a right: with systemd "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE, else sysctl net.ipv4.ip_unprivileged_port_start=80.",
        ) from taken


async def _wait_certificate(domain: Domain, port: int) -> None:
    """Wait until a handshake succeeds, which takes Caddy's own authority some 20 ms, or a bounded time."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    with suppress(TimeoutError):
        async with asyncio.timeout(_CERTIFICATE_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1", port, ssl=context, server_hostname=domain.name
                    )
                    writer.transport.abort()
                    return
                await asyncio.sleep(0.01)


def _folder(state_dir: Path) -> Path:
    folder = state_dir / "caddy"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@asynccontextmanager
async def running_caddy(plan: Plan, tell: Tell) -> AsyncIterator[None]:
    """A Caddy that does as planned, started again whenever it dies; it ends with the context, or with us.

    Raises:
        PlatformError: it is not installed, or did not start.
    """
    caddy = find_caddy()
    process = await CaddyProcess.start(caddy, plan, tell)
    keeper: asyncio.Task[None] | None = None
    try:
        await process.wait_ready()
        keeper = asyncio.create_task(_keep(process, caddy, plan, tell), name="keeper of caddy")
        yield
    finally:
        if keeper is None:
            await asyncio.shield(process.aclose())
        else:
            keeper.cancel()
            await asyncio.shield(asyncio.gather(keeper, return_exceptions=True))


async def _keep(process: CaddyProcess, caddy: Path, plan: Plan, tell: Tell) -> None:
    """Start it again whenever it dies; clients can connect meanwhile. Owns: process."""
    loop = asyncio.get_running_loop()
    pause_s = _FIRST_PAUSE_S
    try:
        while True:
            began = loop.time()
            how = await process.wait_gone()
            if loop.time() - began > _SOUND_S:
                pause_s = _FIRST_PAUSE_S
            tell(f"caddy: {how}; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            while True:
                try:
                    process = await CaddyProcess.start(caddy, plan, tell)
                    break
                except OSError as failed:  # no file or process is free at this moment
                    tell(f"caddy: it cannot be started: {failed.strerror}; again in {pause_s:g} s")
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    finally:
        await process.aclose()
