"""Everything that can go wrong, as one tree.

TailraceError
├── CallerError                 whoever sent the request or typed the command can mend it
│   ├── InvalidRequest          400  a head, a query or a body that is not what the route expects
│   │   └── InvalidUsage        400  a command line that is not understood; it never reaches a gateway
│   ├── InvalidDeployment       400  a deployment, stack file or annotation that cannot be accepted
│   ├── InvalidBundle           400  an uploaded handler folder that is refused
│   ├── NotAuthenticated        401
│   ├── NotAllowed              403
│   ├── NotFound                404  a function, secret, bundle or route that does not exist
│   ├── ReadTimeout             408  the request did not come in time
│   ├── AlreadyExists           409
│   ├── RunExpired              410  a run whose events are no longer kept
│   ├── TooLarge                413
│   ├── UnsupportedContent      415
│   ├── KeyReused               422  an idempotency key that came with another request before
│   ├── RunStopped              409  somebody stopped the run
│   ├── ViewerTooSlow           503  a viewer of a recorded run that does not keep up
│   ├── CallRefused             400  a client's call was answered with a status that is no success
│   └── QueueFull               429  as many calls wait for the function as may
├── FunctionError               500  the function's author can mend it: its handler failed
│   ├── EnvironmentFailed       502  its requirements could not be installed
│   ├── HandlerNotLoaded        502  its handler could not be imported
│   ├── ReplicaFailed           502  a replica took the call and broke
│   ├── RunFailed               502  the run that a client reads ended with an error
│   ├── NotAStream              502  it answered no event stream after the head of one was sent
│   ├── StartTimeout            504  no first byte in time
│   ├── IdleTimeout             504  silent for too long
│   └── TotalTimeout            504  not complete in time
└── PlatformError               whoever runs Tailrace can mend it
    ├── QueueTimeout            503  no place on a ready replica before the queue clock ended
    ├── Overloaded              503  too many connections or bytes held
    ├── Draining                503  the gateway is being stopped, and the call took too long
    ├── Stopped                 503  the gateway was stopped at once
    ├── AddressTaken            503  the listening address belongs to another process
    ├── RunsUnavailable         503  what is kept of runs cannot be read or written now
    ├── ReplicaLost             502  a run's gateway died, and its replica with it
    ├── StateTaken              503  another gateway owns the state directory
    ├── GatewayUnreachable      503  a client could not reach the gateway
    ├── ConnectionLost          503  a client's connection broke, and going on brought nothing
    └── ModelUnavailable        503  the local model cannot be installed or run on this machine
"""

from __future__ import annotations

from typing import ClassVar, Literal

Fault = Literal["caller", "function", "platform"]


class TailraceError(Exception):
    """An error worded for the person who can act on it.

    Args:
        message: What happened, with the values, and what was expected.
        hint: The next step, one sentence or command; None when there is none.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    fault: ClassVar[Fault] = "platform"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def text(self) -> str:
        """Message and hint as the plain text body that OpenFaaS clients print."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class CallerError(TailraceError):
    code = "bad_request"
    http_status = 400
    fault = "caller"


class InvalidRequest(CallerError):
    code = "invalid_request"


class InvalidUsage(InvalidRequest):
    """A command line that is not understood: the command then ends with exit code 2."""

    code = "invalid_usage"


class InvalidDeployment(CallerError):
    code = "invalid_deployment"


class InvalidBundle(CallerError):
    code = "invalid_bundle"


class NotAuthenticated(CallerError):
    code = "not_authenticated"
    http_status = 401


class NotAllowed(CallerError):
    code = "not_allowed"
    http_status = 403


class NotFound(CallerError):
    code = "not_found"
    http_status = 404


class AlreadyExists(CallerError):
    code = "already_exists"
    http_status = 409


class RunExpired(CallerError):
    code = "run_expired"
    http_status = 410


class KeyReused(CallerError):
    code = "key_reused"
    http_status = 422


class RunStopped(CallerError):
    code = "cancelled"
    http_status = 409


class ViewerTooSlow(CallerError):
    code = "viewer_too_slow"
    http_status = 503


class CallRefused(CallerError):
    """The function or the gateway answered a client's call with a status that is no success.

    Attributes:
        status: That status.
        body: What the answer said.
    """

    code = "call_refused"

    def __init__(self, message: str, *, status: int, body: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class TooLarge(CallerError):
    code = "too_large"
    http_status = 413


class UnsupportedContent(CallerError):
    code = "unsupported_content"
    http_status = 415


class ReadTimeout(CallerError):
    code = "timeout_read"
    http_status = 408


class QueueFull(CallerError):
    code = "queue_full"
    http_status = 429


class FunctionError(TailraceError):
    code = "function_failed"
    fault = "function"


class EnvironmentFailed(FunctionError):
    code = "environment_failed"
    http_status = 502


class HandlerNotLoaded(FunctionError):
    code = "handler_not_loaded"
    http_status = 502


class ReplicaFailed(FunctionError):
    code = "replica_failed"
    http_status = 502


class RunFailed(FunctionError):
    """The run that a client reads ended with an error after it had begun.

    Attributes:
        reason: The code that was told: ``function_failed``, ``timeout_idle``, ``replica_lost``, ...
    """

    code = "run_failed"
    http_status = 502

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotAStream(FunctionError):
    code = "not_a_stream"
    http_status = 502


class StartTimeout(FunctionError):
    code = "timeout_start"
    http_status = 504


class IdleTimeout(FunctionError):
    code = "timeout_idle"
    http_status = 504


class TotalTimeout(FunctionError):
    code = "timeout_total"
    http_status = 504


class PlatformError(TailraceError):
    code = "platform_failed"
    http_status = 503


class QueueTimeout(PlatformError):
    code = "timeout_queue"


class Overloaded(PlatformError):
    code = "overloaded"


class Draining(PlatformError):
    code = "drain"


class Stopped(PlatformError):
    code = "stop"


class AddressTaken(PlatformError):
    code = "address_taken"


class RunsUnavailable(PlatformError):
    code = "runs_unavailable"


class ReplicaLost(PlatformError):
    code = "replica_lost"
    http_status = 502


class StateTaken(PlatformError):
    code = "state_taken"


class GatewayUnreachable(PlatformError):
    code = "gateway_unreachable"


class ConnectionLost(PlatformError):
    code = "connection_lost"


class ModelUnavailable(PlatformError):
    code = "model_unavailable"
