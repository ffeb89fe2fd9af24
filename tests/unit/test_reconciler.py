"""The reconcile loop against the in-memory provider: starts, updates, crashes, retirements."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tailrace.errors import HandlerNotLoaded
from tailrace.functions.logs import LogStore
from tailrace.functions.loop import Reconciler
from tailrace.functions.table import Function, Table
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.memory import MemoryProvider
from tests.kit.loops import run

SPEC = FunctionSpec(FunctionName("fn"), "image:1", "0" * 64)


@asynccontextmanager
async def reconciling() -> AsyncIterator[tuple[Reconciler, MemoryProvider, Table]]:
    table, provider = Table(), MemoryProvider()
    reconciler = Reconciler(table, provider, LogStore(100))
    try:
        yield reconciler, provider, table
    finally:
        await reconciler.aclose()
        await provider.aclose()


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; `run` bounds it."""
    while not is_so():
        await asyncio.sleep(0.001)


def ready_ids(function: Function) -> list[str]:
    return [replica.id for replica in function.ready]


def test_a_deploy_starts_its_replicas_and_an_update_replaces_them() -> None:
    """Two wished are two ready; a new revision takes over and the old ones end."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, _):
            function = await reconciler.deploy(replace(SPEC, labels={"com.openfaas.scale.min": "2"}))
            await until(lambda: len(function.ready) == 2)
            old = ready_ids(function)

            await reconciler.deploy(replace(function.spec, env={"A": "1"}))
            await function.settled.wait()
            await until(lambda: not set(old) & set(function.replicas))

            assert len(function.ready) == 2
            assert function.spec.revision != SPEC.revision
            assert provider.name

    run(main())


def test_a_busy_old_replica_ends_with_its_last_call() -> None:
    """An update gives it no new calls and takes none away."""

    async def main() -> None:
        async with reconciling() as (reconciler, _, _):
            function = await reconciler.deploy(SPEC)
            await function.settled.wait()
            leased = function.lease()
            assert leased is not None

            await reconciler.deploy(replace(SPEC, env={"A": "1"}))
            await until(lambda: leased.state == "draining")
            fresh = function.lease()

            assert fresh is not None
            assert fresh is not leased
            assert leased.id in function.replicas
            leased.release()
            await until(lambda: leased.id not in function.replicas)

    run(main())


def test_a_crashed_replica_is_replaced_and_counted() -> None:
    """Its last words become the function's last error."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, _):
            function = await reconciler.deploy(SPEC)
            await function.settled.wait()
            first = ready_ids(function)[0]

            provider.replicas[first].die(3, "out of luck")
            await until(lambda: bool(function.ready) and first not in ready_ids(function))

            assert function.failures == 1

    run(main())


def test_a_retiring_replica_is_replaced_before_it_is_gone() -> None:
    """It takes no more calls, and its end is no crash."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, _):
            function = await reconciler.deploy(SPEC)
            await function.settled.wait()
            leased = function.lease()
            assert leased is not None

            provider.replicas[leased.id].retire("a call cannot be stopped")
            await until(lambda: bool(function.ready) and leased.id not in ready_ids(function))

            assert leased.id in function.replicas
            provider.replicas[leased.id].die(75)
            await until(lambda: leased.id not in function.replicas)
            assert function.failures == 0

    run(main())


def test_a_failed_start_is_told_and_retried() -> None:
    """The deploy is settled with the error; the next try succeeds by itself."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, _):
            provider.fail_starts("fn", HandlerNotLoaded("no module named x"))
            function = await reconciler.deploy(SPEC)
            await function.settled.wait()
            assert "no module named x" in function.last_error

            await until(lambda: bool(function.ready))

            assert function.last_error == ""

    run(main())


def test_removing_a_function_answers_those_who_wait() -> None:
    """A call that waits for a replica of a removed function is granted none."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, table):
            provider.hold_starts("fn")
            function = await reconciler.deploy(SPEC)
            granted: list[object] = []
            function.wait(granted.append)

            await reconciler.remove(SPEC.name)
            await until(lambda: granted == [None])

            assert table.get(SPEC.name) is None
            await until(lambda: not function.replicas)

    run(main())


@pytest.mark.parametrize("count", [1, 50])
def test_calls_that_wait_are_granted_in_order(count: int) -> None:
    """First come, first served."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, _):
            held = provider.hold_starts("fn")
            function = await reconciler.deploy(SPEC)
            order: list[int] = []
            for n in range(count):
                function.wait(lambda _, n=n: order.append(n))  # type: ignore[misc]  # bound now
            held.set()
            await until(lambda: len(order) == count)

            assert order == list(range(count))
            assert function.ready[0].in_flight == count

    run(main())


def test_deploys_and_removes_at_once_leave_one_truth() -> None:
    """What is saved, what is wished and what runs agree, in whatever order the calls were served."""

    async def main() -> None:
        async with reconciling() as (reconciler, provider, table):
            for turn in range(20):
                work = [reconciler.deploy(replace(SPEC, env={"N": f"{turn}{n}"})) for n in range(6)]
                removes = [reconciler.remove(SPEC.name) for _ in range(4)]
                mixed = [job for pair in itertools.zip_longest(work, removes) for job in pair if job]
                await asyncio.gather(*mixed, return_exceptions=True)

            function = table.get(SPEC.name)
            saved = provider.specs.get(SPEC.name)
            assert (function.spec if function else None) == saved
            if function is not None:
                await reconciler.remove(SPEC.name)
            await until(lambda: all(replica.has_ended for replica in provider.replicas.values()))

    run(main())
