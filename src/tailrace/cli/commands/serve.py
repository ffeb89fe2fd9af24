"""``tailrace serve``: the gateway for servers, without a stack file and without watching."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tailrace.cli import settingflags as flags
from tailrace.cli.result import finish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.cli.logview import LogView
    from tailrace.cli.outlet import Outlet
    from tailrace.cli.reloading import Reloads
    from tailrace.cli.signals import Wishes
    from tailrace.functions.logs import LogStore
    from tailrace.gateway import Gateway
    from tailrace.settings import Settings


@flags.takes_settings()
def command(**options: object) -> None:
    """Run the gateway for a server: deployments survive restarts, logs go to stdout.

    An address other than loopback needs --auth. Every setting can also come from the environment, as
    TAILRACE_<NAME>, or from the file that --settings names. SIGTERM and Ctrl-C let running calls finish,
    for --drain-s at most; the second one stops at once. SIGHUP reads the settings again.

    \b
    Examples:
      tailrace serve
      tailrace serve --host 0.0.0.0 --auth
      tailrace serve --domain api.example.com --auth
    """
    from tailrace.cli.signals import Wishes, run_until_stopped

    load = loader(flags.given(options))
    settings, wishes = load(), Wishes()
    finish(run_until_stopped(run(settings, wishes, load), wishes))


def loader(given: Mapping[str, object]) -> Callable[[], Settings]:
    """Reads the settings, now or again: what was given, the environment, the file; systemd's socket."""
    from tailrace.ports import handed_in
    from tailrace.settings import load

    fd = handed_in(os.environ, os.getpid())

    def read() -> Settings:
        settings = load(given)
        if fd is None or settings.fd is not None:
            return settings
        return replace(settings, fd=fd, sources={**settings.sources, "fd": "systemd"})

    return read


async def run(settings: Settings, wishes: Wishes, load: Callable[[], Settings]) -> None:
    """The gateway and its log, until it has drained, or is cancelled.

    Args:
        load: Reads the settings again, for a reload.
    """
    from tailrace.cli.outlet import open_outlet

    async with open_outlet(sys.stdout.fileno()) as out:
        await _run(settings, wishes, load, out)


async def _run(settings: Settings, wishes: Wishes, load: Callable[[], Settings], out: Outlet) -> None:
    from tailrace.cli.calllines import as_they_are
    from tailrace.cli.logview import LogView
    from tailrace.cli.reloading import Reloads
    from tailrace.cli.settingsview import describe
    from tailrace.cli.terminal import paint_for
    from tailrace.front.caddy import in_front
    from tailrace.gateway import open_gateway

    def tell(text: str) -> None:
        view.say("tailrace", text)

    check(settings)
    view = LogView(out, paint_for(sys.stdout, os.environ))
    tell(describe(settings))
    async with open_gateway(settings, persistent=True, calls=as_they_are(view, out)) as gateway:
        if gateway.new_password:
            tell(f"user admin, password {gateway.new_password} (shown only now)")
        async with in_front(settings, gateway.url, tell) as url:
            reloads = Reloads(settings, load=load, apply=gateway.reload, tell=tell, check=check)
            with reloads.announced():
                wishes.can_drain = True
                if gateway.metrics.url:
                    tell(f"metrics at {gateway.metrics.url}")
                tell(f"listening on {url}")
                await _until_drained(gateway, view, out, wishes, reloads)


def check(settings: Settings) -> None:
    """Refuse, before anything is opened or changed, settings that do not go together.

    Raises:
        TailraceError: what is wrong, and what to do.
    """
    from tailrace.edge.certificate import open_certificate
    from tailrace.front.caddy import check_domain
    from tailrace.gateway import check_exposure

    check_domain(settings)
    if settings.fd is None:
        check_exposure(settings, settings.host)
    open_certificate(settings)


async def _until_drained(
    gateway: Gateway, view: LogView, out: Outlet, wishes: Wishes, reloads: Reloads
) -> None:
    """Show the log and reload when asked, until no call is left after the wish to drain."""
    import asyncio

    async with asyncio.TaskGroup() as group:
        beside = [
            group.create_task(_show_logs(gateway.logs, view, out)),
            group.create_task(out.wait_lost()),
            group.create_task(_reload(wishes, reloads)),
        ]
        await wishes.drain.wait()
        await _drain(gateway, view)
        for task in beside:
            task.cancel()


async def _drain(gateway: Gateway, view: LogView) -> None:
    open_calls, limit_s = gateway.open_calls, gateway.edge.settings.drain_s
    if open_calls:
        calls = "1 call" if open_calls == 1 else f"{open_calls} calls"
        view.say("tailrace", f"draining: {calls} may finish within {limit_s:g} s; Ctrl-C again stops now")
    ended = await gateway.drain()
    if ended:
        view.say("tailrace", f"{ended} of them were ended after {limit_s:g} s (drain_s)")
    view.say("tailrace", "stopping")


async def _show_logs(logs: LogStore, view: LogView, out: Outlet) -> None:
    from tailrace.cli.logview import piece_of

    with logs.follow() as lines:
        async for line in lines:
            view.show(piece_of(line))
            await out.wait_room()


async def _reload(wishes: Wishes, reloads: Reloads) -> None:
    while True:
        await wishes.reload.wait()
        wishes.reload.clear()
        reloads.reload()
