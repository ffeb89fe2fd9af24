"""``tailrace describe``: one function, its replicas, and why it does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.cli.options import AsJson, FunctionArgument, Gateway, Namespace
from tailrace.cli.result import Result, finish

if TYPE_CHECKING:
    from tailrace.client import Client
    from tailrace.wire.openfaas import FunctionStatus, ReplicaStatus, TailraceStatus

# Three starts that failed in a row are no accident.
_CRASH_LOOP = 3


def command(
    name: FunctionArgument, gateway: Gateway = None, namespace: Namespace = "", as_json: AsJson = False
) -> None:
    """Show one function: its address, its replicas, and its last error.

    \b
    Examples:
      tailrace describe stream
      tailrace describe stream --json
    """
    from tailrace.cli.session import function_name, with_client

    wanted = function_name(name, namespace)

    async def use(client: Client) -> Result:
        import msgspec

        status = await client.get_function(wanted)
        url = client.function_url(wanted)
        data = msgspec.to_builtins(status)
        return Result(render(status, url), {**data, "url": url})

    finish(with_client(gateway, use), as_json=as_json)


def render(status: FunctionStatus, url: str) -> str:
    """What a person reads; empty fields are left out."""
    from tailrace.cli.columns import fields, pairs

    own = status.tailrace
    rows = [
        ("Name", status.name if not status.namespace else f"{status.name} (namespace {status.namespace})"),
        ("State", _state(own) if own else ("ready" if status.available_replicas else "not ready")),
        ("URL", url),
        ("Image", status.image),
        ("Replicas", f"{status.available_replicas} of {status.replicas} ready"),
        ("Deployed", status.created_at),
        ("Started in", f"{own.start_s:.2f} s (import {own.import_s:.2f} s)" if own and own.start_s else ""),
        ("Process", status.env_process),
        ("Secrets", ", ".join(status.secrets or ())),
        ("Environment", ", ".join(sorted(status.env_vars or ()))),
        ("Labels", pairs(status.labels)),
        ("Annotations", pairs(status.annotations)),
    ]
    lines = fields(rows)
    lines += [_replica(replica) for replica in own.replicas] if own else []
    if own and own.last_error:
        lines += ["", "Last error:", *(f"  {line}" for line in own.last_error.splitlines())]
    return "\n".join(lines)


def _state(own: TailraceStatus) -> str:
    if own.failures >= _CRASH_LOOP:
        return f"{own.state}, crash loop: {own.failures} starts failed in a row"
    return f"{own.state}, {own.failures} failed" if own.failures else own.state


def _replica(replica: ReplicaStatus) -> str:
    return (
        f"  replica {replica.id}: {replica.state}, revision {replica.revision}, "
        f"{replica.in_flight} running, {replica.age_s:.0f} s"
        + (f", pid {replica.pid}" if replica.pid else "")
    )
