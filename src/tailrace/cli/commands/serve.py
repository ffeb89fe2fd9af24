"""``tailrace serve``: the gateway for servers, without a stack file and without watching."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tailrace.cli import settingflags as flags
from tailrace.cli.result import finish

if TYPE_CHECKING:
    from tailrace.settings import Settings


@flags.takes_settings()
def command(**options: object) -> None:
    """Run the gateway for a server: deployments survive restarts, logs go to stdout.

    An address other than loopback needs --auth. Every setting can also come from the environment, as
    TAILRACE_<NAME>. SIGTERM and Ctrl-C stop it.

    \b
    Examples:
      tailrace serve
      tailrace serve --host 0.0.0.0 --auth
      tailrace serve --domain api.example.com --auth
    """
    from tailrace.cli.signals import run_until_stopped
    from tailrace.settings import load

    settings = load(flags.given(options))
    finish(run_until_stopped(run(settings)))


async def run(settings: Settings) -> None:
    """The gateway and its log, until cancelled."""
    from tailrace.cli.logview import LogView, piece_of
    from tailrace.cli.terminal import paint_for
    from tailrace.front.caddy import check_domain, in_front
    from tailrace.gateway import open_gateway

    def tell(text: str) -> None:
        view.say("tailrace", text)

    check_domain(settings)
    view = LogView(sys.stdout, paint_for(sys.stdout, os.environ))
    tell(describe(settings))
    async with open_gateway(settings, persistent=True) as gateway:
        if gateway.new_password:
            tell(f"user admin, password {gateway.new_password} (shown only now)")
        async with in_front(settings, gateway.url, tell) as url:
            tell(f"listening on {url}")
            with gateway.logs.follow() as lines:
                async for line in lines:
                    view.show(piece_of(line))


def describe(settings: Settings) -> str:
    """Every effective setting with its unit and where it came from, a line each."""
    from tailrace.settings import ROWS

    lines = []
    for row in ROWS:
        value = _shown(getattr(settings, row.name), row.unit)
        lines.append(f"{row.name:<20} {value}  ({settings.sources[row.name]})")
    return "\n".join(lines)


def _shown(value: object, unit: str) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value} {unit}".rstrip()
