"""The functions a gateway knows, their replicas, and the calls that wait for one.

The edge asks the table on every call, so what it needs lies ready: the list of replicas that take calls.
Only `functions.loop` changes replicas; only `edge.call` leases and waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from tailrace.functions.plan import ReplicaState, ReplicaView
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.options import FunctionOptions, read_options
from tailrace.provider.contract import Address, ReplicaHandle


class Replica:
    """One replica as the gateway sees it. ``in_flight`` counts the calls it is answering."""

    __slots__ = ("function", "handle", "id", "in_flight", "revision", "since", "state")

    def __init__(self, function: Function, replica_id: str, revision: str, since: float) -> None:
        self.function = function
        self.id = replica_id
        self.revision = revision
        self.state: ReplicaState = "starting"
        self.in_flight = 0
        self.since = since
        self.handle: ReplicaHandle | None = None

    @property
    def address(self) -> Address:
        assert self.handle is not None, "a replica has an address once it is ready"
        return self.handle.address

    def release(self) -> None:
        """Give back what `Function.lease` took."""
        self.in_flight -= 1
        if self.function.waiting:
            self.function.grant()
        if self.state == "draining" and not self.in_flight:
            self.function.on_change()


class Waiter:
    """A call that waits for a replica. ``grant`` gets a leased one, or None when the function is removed."""

    __slots__ = ("grant",)

    def __init__(self, grant: Callable[[Replica | None], None]) -> None:
        self.grant = grant


class Function:
    """One deployed function. ``on_change`` tells the loop to look again."""

    def __init__(self, spec: FunctionSpec, on_change: Callable[[], None]) -> None:
        self.spec = spec
        self.options: FunctionOptions = read_options(spec.annotations, spec.labels, spec.env)
        self.on_change = on_change
        self.is_removed = False
        self.replicas: dict[str, Replica] = {}
        self.ready: list[Replica] = []
        self.waiting: dict[Waiter, None] = {}
        # Calls that are over, however they ended, on all the replicas that there were.
        self.invocations = 0
        self.failures = 0
        self.retry_at = 0.0
        self.last_error = ""
        # Set once the wished revision has become ready or failed: what a deploy waits for.
        self.settled = asyncio.Event()
        self.wished = 0
        self.scale(spec.replicas)
        self.start_s = 0.0
        self.import_s = 0.0

    @property
    def name(self) -> FunctionName:
        return self.spec.name

    def scale(self, replicas: int | None) -> None:
        """Wish for so many replicas; None: for the least that its labels ask for."""
        self.wished = self.options.min_replicas if replicas is None else replicas
        if self.wished:
            return
        self.settled.set()  # nothing to wait for
        if self.waiting:
            self._wake()

    @property
    def is_asleep(self) -> bool:
        """Whether it is scaled to zero and nobody waits for it yet: the next call has to wake it."""
        return not self.wished and not self.waiting

    def _wake(self) -> None:
        """A call waits and nobody may serve it: wish for replicas again, without keeping that."""
        self.wished = max(1, self.options.min_replicas)
        self.on_change()

    def lease(self) -> Replica | None:
        """The least busy replica with a free place, now one call busier; None when there is none."""
        ready = self.ready
        if not ready:
            return None
        replica = ready[0] if len(ready) == 1 else min(ready, key=lambda r: r.in_flight)
        limit = self.options.concurrency
        if limit and replica.in_flight >= limit:
            return None
        replica.in_flight += 1
        return replica

    def wait(self, grant: Callable[[Replica | None], None]) -> Waiter:
        """Queue for the next free place on a ready replica, first come first served.

        A function that is scaled to zero wakes up for it.
        """
        waiter = Waiter(grant)
        self.waiting[waiter] = None
        if not self.wished:
            self._wake()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue; nothing happens when the waiter was granted already."""
        self.waiting.pop(waiter, None)

    def grant(self) -> None:
        """Give free places to the calls that wait, the first one first."""
        while self.waiting and (replica := self.lease()):
            self._next().grant(replica)

    def _next(self) -> Waiter:
        waiter = next(iter(self.waiting))
        del self.waiting[waiter]
        return waiter

    def route(self) -> None:
        """Recompute which replicas take calls, and grant the calls that wait; none once it is removed."""
        if self.is_removed:
            self.ready = []
            while self.waiting:
                self._next().grant(None)
            return
        ready = [r for r in self.replicas.values() if r.state == "ready"]
        newest = [r for r in ready if r.revision == self.spec.revision]
        self.ready = newest or ready
        self.grant()

    def views(self) -> tuple[ReplicaView, ...]:
        """The replicas as the plan sees them."""
        return tuple(ReplicaView(r.id, r.revision, r.state, r.in_flight) for r in self.replicas.values())


class Table:
    """All functions by name. Iterating gives them sorted by name."""

    def __init__(self) -> None:
        self._functions: dict[FunctionName, Function] = {}
        self._by_label: dict[bytes, Function] = {}

    def find(self, label: bytes) -> Function | None:
        """The function a URL's ``name`` or ``name.namespace`` means, without parsing it."""
        return self._by_label.get(label)

    def get(self, name: FunctionName) -> Function | None:
        return self._functions.get(name)

    def add(self, function: Function) -> None:
        self._functions[function.name] = function
        for label in {str(function.name), function.name.short}:
            self._by_label[label.encode()] = function

    def remove(self, name: FunctionName) -> None:
        self._functions.pop(name, None)
        for label in {str(name), name.short}:
            self._by_label.pop(label.encode(), None)

    def __iter__(self) -> Iterator[Function]:
        return iter(sorted(self._functions.values(), key=lambda f: f.name))

    def names(self, namespace: str) -> Iterable[str]:
        """Names deployed in a namespace, sorted."""
        return [f.name.name for f in self if f.name.namespace == namespace]
