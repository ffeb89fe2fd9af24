"""``tailrace worker``: makes calls of queues apart from a gateway."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli import settingflags as flags
from tailrace.cli.result import finish
from tailrace.errors import GatewayUnreachable, InvalidRequest

if TYPE_CHECKING:
    from tailrace.cli.signals import Wishes
    from tailrace.settings import Settings

SETTINGS = (
    "nats_url", "nats_creds", "runs_copies", "async_queues", "async_concurrency", "async_lease_s",
    "async_max_bytes", "async_dead_keep_s", "async_retry_attempts", "async_retry_min_wait_s",
    "async_retry_max_wait_s", "callback_allow_private", "callback_patience_s", "drain_s", "metrics_port",
    "settings",
)  # fmt: skip


@flags.takes_settings(*SETTINGS)
def command(
    gateway_url: Annotated[
        str | None,
        typer.Option(
            "--gateway-url",
            metavar="URL",
            envvar="TAILRACE_GATEWAY_URL",
            show_envvar=False,
            help="The gateway that makes the calls, as its admin. Default: $TAILRACE_GATEWAY_URL.",
        ),
    ] = None,
    **options: object,
) -> None:
    """Take asynchronous calls out of their queues and have a gateway make them; deliver their results.

    The gateway does the same by itself unless it is started with --async-queues off. The password of a
    gateway that asks for one is that of `tailrace login`, or stands in the URL. SIGTERM and Ctrl-C let the
    calls that are being made finish, for --drain-s at most.

    \b
    Examples:
      tailrace worker --nats-url nats://10.0.0.5:4222 --gateway-url http://10.0.0.7:8080
      tailrace worker --nats-url nats://10.0.0.5:4222 --gateway-url http://10.0.0.7:8080 --async-queues slow
    """
    from tailrace.cli.signals import Wishes, run_until_stopped
    from tailrace.settings import load

    settings, wishes = load(flags.given(options)), Wishes()
    finish(run_until_stopped(run(settings, gateway_url or "", wishes), wishes))


async def run(settings: Settings, gateway_url: str, wishes: Wishes) -> None:
    """Work until it has drained, or is cancelled."""
    import os

    from tailrace.addresses import EMBEDDED
    from tailrace.cli.credentials import find_authorization
    from tailrace.client.connection import is_hopeless
    from tailrace.gateway_url import parse_gateway

    if not gateway_url:
        raise InvalidRequest("a worker needs a gateway", hint="Name it: --gateway-url http://127.0.0.1:8080")
    if not settings.nats_url or settings.nats_url == (EMBEDDED,):
        raise InvalidRequest(
            "a worker needs the NATS of its gateway", hint="Name it: --nats-url nats://HOST:4222"
        )
    if not settings.async_queues:
        raise InvalidRequest("a worker that serves no queue has nothing to do (async_queues is off)")
    url, own = parse_gateway(gateway_url)
    try:
        await _work(settings, url, own or find_authorization(url, os.environ), wishes)
    except GatewayUnreachable as failed:
        if failed.hint and not is_hopeless(failed):
            failed.hint = "Start one: tailrace serve (or name another: --gateway-url URL)."
        raise


async def _work(settings: Settings, url: str, authorization: str, wishes: Wishes) -> None:
    from tailrace.client import open_client
    from tailrace.control.metrics.app import serving_metrics
    from tailrace.control.metrics.catalogue import WORKER
    from tailrace.control.metrics.snapshot import take_snapshot
    from tailrace.edge.numbers import Numbers
    from tailrace.functions.table import Table
    from tailrace.queue.numbers import QueueNumbers
    from tailrace.queue.opening import working_alone

    numbers = QueueNumbers()
    async with (
        open_client(url, authorization=authorization) as client,
        serving_metrics(
            settings.metrics_port, lambda: take_snapshot(Numbers(), Table(), queue=numbers), WORKER,
            may_move=settings.sources["metrics_port"] == "default",
        ) as metrics,
        working_alone(settings, client, numbers) as worker,
    ):  # fmt: skip
        wishes.can_drain = True
        _say(f"serves the queues {', '.join(settings.async_queues)} through {url}")
        if metrics.url:
            _say(
                f"metrics at {metrics.url}" + (f": {metrics.moved_because}" if metrics.moved_because else "")
            )
        await wishes.drain.wait()
        worker.stop()
        if worker.in_hand:
            _say(f"draining: {worker.in_hand} calls may finish within {settings.drain_s:g} s")
        await worker.wait_idle(settings.drain_s)
        _say("stopping")


def _say(words: str) -> None:
    sys.stdout.write(f"tailrace  {words}\n")
    sys.stdout.flush()
