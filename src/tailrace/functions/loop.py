"""The reconcile loop: one keeper task per function does what the plan says, again after every change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace

from tailrace.errors import AlreadyExists, InvalidRequest, NotFound, TailraceError
from tailrace.functions import plan as planning
from tailrace.functions.logs import LogStore
from tailrace.functions.scale import alerted
from tailrace.functions.table import Function, Replica, Table
from tailrace.model import FunctionSpec, LogLine
from tailrace.names import FunctionName
from tailrace.options import MAX_REPLICAS, read_options
from tailrace.provider.contract import Exit, Provider
from tailrace.schedules import TOPIC, has_topic

logger = logging.getLogger(__name__)

# After its last call a replica has nothing to finish; this bounds what atexit handlers may take.
STOP_GRACE_S = 2.0
_NO_TOPIC = (
    f"note: its annotation 'schedule' counts only with 'topic: {TOPIC}'; nothing calls it by the clock"
)


class Reconciler:
    """Makes reality follow the wishes. Owns every task it starts; `aclose` ends them all.

    Args:
        clock: Monotonic seconds; tests move it by hand.
    """

    def __init__(
        self, table: Table, provider: Provider, logs: LogStore, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = table
        self._provider = provider
        self._logs = logs
        self._clock = clock
        self._numbers = itertools.count(1)
        # Held from a look at the table to its change: what is saved and what is wished never part.
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def restore(self) -> None:
        """Wish again for every saved deployment. One that cannot be read is logged, not fatal."""
        for spec in await self._provider.load_specs():
            try:
                self._wish(spec)
            except TailraceError as error:
                logger.error("deployment %s is not restored: %s", spec.name, error.message)

    async def deploy(self, spec: FunctionSpec, *, is_there: bool | None = None) -> Function:
        """Wish for this spec, saved first. Returns at once; `Function.settled` tells when it is decided.

        Args:
            is_there: True: only as an update; False: only as a new function; None: either.
        Raises:
            InvalidDeployment: an annotation or label is refused.
            NotFound: an update of a function that is not deployed.
            AlreadyExists: a new function of a name that is.
        """
        read_options(spec.annotations, spec.labels, spec.env)
        async with self._changing:
            known = self._table.get(spec.name)
            if known is None and is_there is True:
                raise NotFound(f"function '{spec.name.short}' is not deployed")
            if known is not None and is_there is False:
                raise AlreadyExists(
                    f"function '{spec.name.short}' is deployed already", hint="Update it with PUT."
                )
            if known is not None:
                spec = replace(spec, created_at=known.spec.created_at, replicas=known.spec.replicas)
            await self._provider.save_spec(spec)
            function = self._wish(spec)
            if "schedule" in spec.annotations and not has_topic(spec.annotations):
                self._tell(function, _NO_TOPIC, stream="stdout")
            return function

    async def scale(self, name: FunctionName, replicas: int) -> None:
        """Wish for so many replicas from now on, also after a restart. At 0 the next call wakes it.

        Raises:
            NotFound: no such function.
            InvalidRequest: more than `MAX_REPLICAS`.
        """
        if not 0 <= replicas <= MAX_REPLICAS:
            raise InvalidRequest(f"replicas: {replicas} is not a whole number from 0 to {MAX_REPLICAS}")
        async with self._changing:
            await self._scale(self._find(name), replicas)

    async def follow_alert(self, name: FunctionName, *, is_firing: bool) -> None:
        """Scale up by a step while the alert fires; once it is resolved, wish what the labels wish.

        Raises:
            NotFound: no such function.
        """
        async with self._changing:  # several alerts at once, and a deployment's new labels, count one by one
            function = self._find(name)
            options = function.options
            wanted = alerted(
                function.wished,
                least=options.min_replicas,
                most=options.max_replicas,
                factor=options.scale_factor,
                is_firing=is_firing,
            )
            if wanted != function.wished:
                # Back at the least it is as if no alert had been: a later scale.min counts.
                await self._scale(function, wanted if is_firing else None)

    async def _scale(self, function: Function, replicas: int | None) -> None:
        spec = replace(function.spec, replicas=replicas)
        await self._provider.save_spec(spec)
        function.spec = spec
        function.scale(replicas)
        function.on_change()

    def _find(self, name: FunctionName) -> Function:
        function = self._table.get(name)
        if function is None:
            raise NotFound(f"function '{name.name}' is not deployed in namespace '{name.namespace}'")
        return function

    async def remove(self, name: FunctionName) -> None:
        """Take the wish back. Calls that run finish; calls that wait are answered 404.

        Raises:
            NotFound: no such function.
        """
        async with self._changing:
            function = self._find(name)
            await self._provider.forget_spec(name)
            self._table.remove(name)
            function.is_removed = True
            function.route()
            function.settled.set()
            function.on_change()

    def release_waiters(self) -> None:
        """Let go of everybody who waits for a deployment to be decided: the gateway stops."""
        for function in self._table:
            function.settled.set()

    async def aclose(self) -> None:
        """Stop caring: ends every task. The replicas are the provider's to stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wish(self, spec: FunctionSpec) -> Function:
        function = self._table.get(spec.name)
        if function is None:
            changed = asyncio.Event()
            function = Function(spec, changed.set)
            self._table.add(function)
            self._spawn(self._keep(function, changed))
            return function
        is_answered = any(
            r.revision == spec.revision and r.state == "ready" for r in function.replicas.values()
        )
        function.options = read_options(spec.annotations, spec.labels, spec.env)
        function.spec = spec
        function.failures, function.retry_at, function.last_error = 0, 0.0, ""
        if not is_answered:
            function.settled.set()  # who waits for the revision before this one need not
            function.settled = asyncio.Event()
        function.scale(spec.replicas)
        function.on_change()
        return function

    async def _keep(self, function: Function, changed: asyncio.Event) -> None:
        while not (function.is_removed and not function.replicas):
            changed.clear()
            function.route()
            revision = "" if function.is_removed else function.spec.revision
            view = planning.View(revision, function.wished, function.views(), function.retry_at)
            retry_at: float | None = None
            for action in planning.plan(view, self._clock()):
                if isinstance(action, planning.Retry):
                    retry_at = action.at
                else:
                    self._act(function, action)
            wait_s = None if retry_at is None else max(0.0, retry_at - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await changed.wait()
        if self._table.get(function.name) is None:  # and not deployed anew meanwhile
            self._logs.forget(function.name)

    def _act(self, function: Function, action: planning.Start | planning.Drain | planning.Stop) -> None:
        if isinstance(action, planning.Start):
            for _ in range(action.count):
                replica_id = f"{function.name.name[:16].rstrip('-')}-{next(self._numbers)}"
                replica = Replica(function, replica_id, function.spec.revision, self._clock())
                function.replicas[replica_id] = replica
                self._running[replica_id] = self._spawn(self._live(function, replica, function.spec))
            return
        replica = function.replicas[action.id]
        if isinstance(action, planning.Drain):
            replica.state = "draining"
            function.on_change()
            return
        was_starting, replica.state = replica.state == "starting", "stopping"
        if was_starting:
            self._running[replica.id].cancel()
        elif replica.handle is not None:
            self._spawn(self._stop(replica))

    async def _live(self, function: Function, replica: Replica, spec: FunctionSpec) -> None:
        """One replica from its start to its end."""
        began = self._clock()
        try:
            replica.handle = await self._provider.start(spec, replica.id)
            self._became_ready(function, replica, began)
            reason = await replica.handle.wait_retiring()
            if reason:
                self._retires(function, replica, reason)
            gone = await replica.handle.wait_exit()
            if replica.state in ("ready", "draining") and not reason:
                self._crashed(function, replica, gone)
        except TailraceError as error:
            self._failed(function, replica, error.text)
        except Exception as error:
            logger.exception("starting a replica of %s failed", function.name)
            self._failed(function, replica, f"starting a replica failed: {error!r}")
        finally:
            function.replicas.pop(replica.id, None)
            self._running.pop(replica.id, None)
            function.on_change()

    def _became_ready(self, function: Function, replica: Replica, began: float) -> None:
        assert replica.handle is not None
        replica.since = self._clock()
        if replica.state == "stopping":  # outdated while it started
            self._spawn(self._stop(replica))
            return
        replica.state = "ready"
        if replica.revision == function.spec.revision:
            function.start_s, function.import_s = replica.since - began, replica.handle.import_s
            function.last_error = ""
            function.settled.set()
        function.route()
        function.on_change()

    def _retires(self, function: Function, replica: Replica, reason: str) -> None:
        """It takes no more calls: another one takes its place, its running calls may finish."""
        self._tell(function, f"replica {replica.id} is replaced: {reason}")
        if replica.state == "ready":
            replica.state = "draining"
            function.route()
            function.on_change()

    def _crashed(self, function: Function, replica: Replica, gone: Exit) -> None:
        if self._clock() - replica.since >= planning.PROVEN_S:
            function.failures = 0
        how = f"was killed by signal {-gone.code}" if gone.code < 0 else f"ended with exit code {gone.code}"
        words = f"; its last words:\n{gone.last_words}" if gone.last_words else ""
        replica.state = "stopping"
        self._failed(function, replica, f"replica {replica.id} {how}{words}")

    def _failed(self, function: Function, replica: Replica, error: str) -> None:
        self._tell(function, error)
        if replica.revision != function.spec.revision:
            return
        function.failures += 1
        function.retry_at = self._clock() + planning.retry_delay_s(function.failures)
        function.last_error = error
        function.settled.set()

    def _tell(self, function: Function, text: str, *, stream: str = "stderr") -> None:
        for line in text.splitlines():
            self._logs.write(LogLine(function.name, "tailrace", time.time_ns(), f"{line}\n", stream=stream))

    async def _stop(self, replica: Replica) -> None:
        assert replica.handle is not None
        await replica.handle.stop(STOP_GRACE_S)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
