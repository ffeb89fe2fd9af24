"""What the reconcile loop asks of whatever runs the replicas: processes, containers or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tailrace.model import FunctionSpec, LogLine, Namespace
from tailrace.names import FunctionName

LogSink = Callable[[LogLine], None]
SECRET_LIMIT = 1 << 20  # bytes of a value; Kubernetes' bound for a Secret


class Address(NamedTuple):  # the pool's key on every call: a tuple hashes in C
    """Where a replica listens: a unix socket's ``path``, or ``host`` and ``port`` when path is empty."""

    path: str = ""
    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a replica ended. ``code`` as subprocess has it (negative: the signal); ``last_words`` are the
    last lines it wrote, at most 2 KiB, without a trailing newline."""

    code: int
    last_words: str = ""


class ReplicaHandle(Protocol):
    """A replica that became ready. It may die at any moment; ``wait_exit`` tells."""

    @property
    def id(self) -> str: ...

    @property
    def address(self) -> Address: ...

    @property
    def pid(self) -> int:
        """The process id on this machine; 0 where there is none."""

    @property
    def import_s(self) -> float:
        """Seconds the handler's own import took; 0.0 where that is not known."""

    async def wait_retiring(self) -> str:
        """Wait until it takes no more calls on its own account, and why; empty once it is gone.

        A replica retires when a call of it cannot be stopped. Calls that run may still finish on it.
        May be awaited by several tasks and after the end.
        """

    async def wait_exit(self) -> Exit:
        """Wait until the replica is gone. May be awaited by several tasks and after the end."""

    async def stop(self, grace_s: float) -> Exit:
        """Ask it to end, kill it after grace_s seconds, and return once it is gone. Idempotent.

        ``grace_s=0`` kills at once. Leaves no process of the replica's group and no socket behind.
        """


class Provider(Protocol):
    """Starts replicas. Holds no wishes: which replicas should run is the loop's business."""

    @property
    def name(self) -> str: ...

    async def prepare(self, spec: FunctionSpec) -> None:
        """Make everything ready that replicas of this spec share (its environment), so starts are quick.

        Idempotent; concurrent calls for the same requirements build once. Progress that takes over a
        second is told through the log sink under the instance ``tailrace``.

        Raises:
            EnvironmentFailed: the requirements cannot be installed; the text quotes the installer.
            NotFound: the spec's bundle is not in the store.
        """

    async def start(self, spec: FunctionSpec, replica_id: str) -> ReplicaHandle:
        """Start one replica and return once its handler is loaded and it accepts connections.

        Cancelling kills what was started. ``replica_id`` is unique in this gateway's life and short
        (at most 24 characters of ``[a-z0-9-]``).

        Raises:
            HandlerNotLoaded: it ended, or said it cannot load its handler; the text quotes the last lines
                of the traceback, and for a missing module says which line requirements.txt needs.
            EnvironmentFailed, NotFound: as in ``prepare``.
        """

    async def load_specs(self) -> list[FunctionSpec]:
        """The deployments that were saved before, to be wished for again after a restart."""

    async def save_spec(self, spec: FunctionSpec) -> None:
        """Keep this deployment, replacing the function's earlier one; durable when it returns."""

    async def forget_spec(self, name: FunctionName) -> None:
        """Drop a saved deployment; nothing happens when there is none."""

    async def list_namespaces(self) -> list[Namespace]:
        """The namespaces that were saved, sorted by name."""

    async def save_namespace(self, namespace: Namespace) -> None:
        """Keep a namespace, replacing an earlier one of its name; durable when it returns."""

    async def forget_namespace(self, name: str) -> bool:
        """Drop a saved namespace; False when there is none."""

    async def list_secrets(self, namespace: str) -> list[str]:
        """Names of the namespace's secrets, sorted. Values are never readable back through this door."""

    async def list_secret_namespaces(self) -> list[str]:
        """The namespaces that hold secrets, sorted."""

    async def set_secret(
        self, namespace: str, name: str, value: bytes, *, is_there: bool | None = None
    ) -> bool:
        """Create or replace a secret atomically; running replicas that refer to it see the new value.

        Args:
            is_there: True: only replace; False: only create, and of several who do so at once one succeeds;
                None: either. The answer is False when nothing was written.
        """

    async def remove_secret(self, namespace: str, name: str) -> bool:
        """Remove a secret; False when it did not exist."""

    async def aclose(self) -> None:
        """Stop every replica that is left (killing at once) and free what the provider holds."""
