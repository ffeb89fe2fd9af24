"""Everything that can go wrong, as one tree.

TailraceError
├── CallerError                 whoever sent the request or typed the command can mend it
│   ├── InvalidRequest          400  a head, a query or a body that is not what the route expects
│   ├── InvalidDeployment       400  a deployment, stack file or annotation that cannot be accepted
│   ├── InvalidBundle           400  an uploaded handler folder that is refused
│   ├── NotAuthenticated        401
│   ├── NotAllowed              403
│   ├── NotFound                404  a function, secret, bundle or route that does not exist
│   ├── AlreadyExists           409
│   ├── TooLarge                413
│   └── UnsupportedContent      415
├── FunctionError               the function's author can mend it
│   ├── EnvironmentFailed       502  its requirements could not be installed
│   ├── HandlerNotLoaded        502  its handler could not be imported
│   └── ReplicaFailed           502  a replica took the call and broke
└── PlatformError               whoever runs Tailrace can mend it
    ├── NoReplica               503  no replica became ready before the queue clock ended
    ├── AddressTaken            503  the listening address belongs to another process
    ├── StateTaken              503  another gateway owns the state directory
    ├── GatewayUnreachable      503  a client could not reach the gateway
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


class TooLarge(CallerError):
    code = "too_large"
    http_status = 413


class UnsupportedContent(CallerError):
    code = "unsupported_content"
    http_status = 415


class FunctionError(TailraceError):
    code = "function_failed"
    http_status = 502
    fault = "function"


class EnvironmentFailed(FunctionError):
    code = "environment_failed"


class HandlerNotLoaded(FunctionError):
    code = "handler_not_loaded"


class ReplicaFailed(FunctionError):
    code = "replica_failed"


class PlatformError(TailraceError):
    code = "platform_failed"
    http_status = 503


class NoReplica(PlatformError):
    code = "no_replica"


class AddressTaken(PlatformError):
    code = "address_taken"


class StateTaken(PlatformError):
    code = "state_taken"


class GatewayUnreachable(PlatformError):
    code = "gateway_unreachable"


class ModelUnavailable(PlatformError):
    code = "model_unavailable"
