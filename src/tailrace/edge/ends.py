"""The reasons a call can end for, as log and metric name them, and the errors callers are told. Pure."""

from __future__ import annotations

from tailrace.edge.clocks import ClockName, Clocks
from tailrace.errors import (
    FunctionError,
    IdleTimeout,
    NotAStream,
    NotFound,
    Overloaded,
    PlatformError,
    QueueFull,
    QueueTimeout,
    ReadTimeout,
    ReplicaFailed,
    StartTimeout,
    TailraceError,
    TotalTimeout,
)
from tailrace.functions.table import Function, Table
from tailrace.names import DEFAULT_NAMESPACE, parse_function_name
from tailrace.wire.heads import ResponseHead

DONE = "done"
REFUSED = "refused"
ERROR_FUNCTION = "error_function"
ERROR_PLATFORM = "error_platform"
REPLICA_DIED = "replica_died"
CLIENT_GONE = "client_gone"
CLIENT_STALLED = "timeout_stall"
DRAIN = "drain"
STOP = "stop"
# Somebody stopped the run.
CANCELLED = "cancelled"
# Followed by the clock's name.
TIMEOUT = "timeout_"

# Names listed in a 404, so that a typing error is seen without a second request.
NAMES_LISTED = 20


def not_found(table: Table, label: bytes, *, is_open: bool) -> NotFound:
    """No such function, and which there are.

    Args:
        is_open: Whoever calls may know of all functions; False: the gateway asks for a password to list them.
    """
    wanted = parse_function_name(label.decode("latin-1"))
    namespace = wanted.namespace if wanted else DEFAULT_NAMESPACE
    name = wanted.name if wanted else label[:64].decode("latin-1")
    if not is_open:
        return NotFound(
            f"function '{name}' not found in namespace '{namespace}'",
            hint="See which there are: tailrace list",
        )
    names = list(table.names(namespace))
    there = ", ".join(f"'{name}'" for name in names[:NAMES_LISTED]) or "none"
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    return NotFound(
        f"function '{name}' not found in namespace '{namespace}'; deployed there: {there}{more}",
        hint="Deploy it: tailrace deploy -f stack.yaml",
    )


def queue_full(function: Function, limit: int) -> QueueFull:
    """As many calls wait for the function as may."""
    return QueueFull(
        f"{limit} calls wait for '{function.name.short}' already, as many as may (queue_limit)",
        hint="Ask again later, or let it run more replicas or more calls per replica.",
    )


def handler_failed() -> FunctionError:
    """The handler raised."""
    return FunctionError("the function failed; its logs say why, under this answer's X-Call-Id")


def replica_failed(why: str, *, is_begun: bool) -> ReplicaFailed:
    """The replica broke the connection."""
    if is_begun:
        return ReplicaFailed("the function's replica failed before its answer was complete; its logs say why")
    return ReplicaFailed(f"a replica took the call and failed before it answered: {why}")


def not_a_stream(head: ResponseHead) -> NotAStream:
    """The function answered something else than the event stream whose head was sent early."""
    kind = head.content_type.decode("latin-1")[:100] or "no content type"
    return NotAStream(
        f"the function answered {head.status} ({kind}) after the head of an event stream had been sent; "
        "com.tailrace.stream.early-head: off keeps the real answer"
    )


def overloaded() -> Overloaded:
    """The gateway holds too much."""
    return Overloaded("the gateway holds as many bytes for running calls as it may (buffer_limit)")


def no_control_plane(error: OSError) -> PlatformError:
    """The control plane is not there."""
    return PlatformError(f"the control plane does not accept connections ({error})")


def unasked_upgrade() -> ReplicaFailed:
    """The function switched protocols without having been asked."""
    return ReplicaFailed("the function answered 101 to a request that asked for no websocket")


def stalled(stall_s: float) -> ReadTimeout:
    """The client sends nothing more of a body it began."""
    return ReadTimeout(f"nothing of the request's body came for {stall_s:g} s (stall_timeout_s)")


def expired(clock: ClockName, clocks: Clocks, function: Function) -> TailraceError:
    """The error of a clock that ran out: which one, its value, and how to change it."""
    name = function.name.short
    if clock == "queue":
        last = f"; the last error:\n{function.last_error}" if function.last_error else ""
        what = "had a free place" if function.ready else "became ready"
        return QueueTimeout(
            f"no replica of '{name}' {what} within {clocks.queue_s:g} s (queue clock){last}",
            hint=f"See: tailrace describe {name}. Change it by com.tailrace.timeout.queue.",
        )
    if clock == "read":
        return ReadTimeout(
            f"the request did not come in within {clocks.read_s:g} s (read_timeout)",
            hint=f"Set read_timeout in the environment of '{name}', 0 for no limit.",
        )
    if clock == "start":
        return StartTimeout(
            f"'{name}' sent no first byte within {clocks.start_s:g} s (start={clocks.start_s:g}s)",
            hint="Set com.tailrace.timeout.start or exec_timeout for the function, 0 for no limit.",
        )
    if clock == "idle":
        return IdleTimeout(
            f"'{name}' was silent for {clocks.idle_s:g} s (idle={clocks.idle_s:g}s)",
            hint="Set com.tailrace.timeout.idle for the function, 0 for no limit.",
        )
    return TotalTimeout(
        f"'{name}' did not end within {clocks.total_s:g} s (total={clocks.total_s:g}s)",
        hint="Set com.tailrace.timeout.total or exec_timeout for the function; X-Timeout only shortens it.",
    )
