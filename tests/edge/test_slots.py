"""Whatever callers and replicas do to a call, in any phase: all of it is given back, and it ends once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tailrace.edge.calllog import CallLog
from tailrace.functions.table import Replica
from tailrace.provider.contract import Address
from tailrace.settings import load
from tests.kit.abuse import REPLIES, Caller, Replicas
from tests.kit.edge import EdgeUnderTest, Handle, edge_before
from tests.kit.loops import run

pytestmark = pytest.mark.slow

ENDS = {
    "done", "error_function", "error_platform", "client_gone", "stop", "drain", "replica_died", "refused",
    "timeout_queue", "timeout_start", "timeout_idle", "timeout_total", "timeout_read", "timeout_stall",
}  # fmt: skip
# So short that a call which nobody ends is ended by a clock while the test looks.
SHORT = {
    "queue_timeout_s": 0.08,
    "start_timeout_s": 0.08,
    "idle_timeout_s": 0.08,
    "stall_timeout_s": 0.1,
    "header_timeout_s": 0.1,
    "keep_alive_timeout_s": 0.1,
    "heartbeat_s": 0.05,
    "early_head_s": 0.03,
}
LIMIT_S = 5.0
LABEL = "fn.openfaas-fn"

# What happens to the function while it is called. "dead": a replica that accepts no connection is added.
Event = Literal["ready", "dead", "leave", "remove", "drain"]


@dataclass(frozen=True)
class Story:
    """Callers, what their replica answers them, and what happens meanwhile and when, in seconds."""

    callers: list[Caller]
    replies: list[tuple[str, bool]]
    events: list[tuple[float, Event]]
    places: int
    queue: int


@dataclass
class Lines:
    """Keeps the ids of the function's calls, from their lines; one for a function that is gone has none."""

    ids: list[str] = field(default_factory=list)

    def take(self, lines: bytes) -> bool:
        told = [json.loads(line) for line in lines.splitlines()]
        self.ids += [line["call_id"] for line in told if line["function"] == LABEL]
        return True


def moments(most_s: float) -> st.SearchStrategy[float]:
    return st.integers(0, round(most_s * 1000)).map(lambda ms: ms / 1000)


HEADERS = (
    b"Accept: text/event-stream", b"Connection: close", b"Expect: 100-continue", b"X-Timeout: 60ms",
    b"Connection: Upgrade\r\nUpgrade: websocket",
)  # fmt: skip
CALLERS = st.builds(
    Caller,
    sends=st.sampled_from(("all", "half a body", "all twice", "head", "half a head", "nothing")),
    body=st.sampled_from(("none", "sized", "chunked", "large")),
    headers=st.lists(st.sampled_from(HEADERS), max_size=2, unique=True).map(tuple),
    waits=st.sampled_from(("for the end", "for a byte", "a moment", "not")),
    leaves=st.sampled_from(("close", "reset", "half")),
    comes_s=moments(0.1),
    pause_s=moments(0.05),
    is_reading=st.booleans(),
)
STORIES = st.builds(
    Story,
    callers=st.lists(CALLERS, min_size=1, max_size=16),
    replies=st.lists(st.tuples(st.sampled_from(sorted(REPLIES)), st.booleans()), min_size=1, max_size=6),
    events=st.lists(
        st.tuples(moments(0.15), st.sampled_from(("ready", "dead", "leave", "remove", "drain"))), max_size=3
    ),
    places=st.integers(0, 2),
    queue=st.integers(0, 4),
)


async def happen(under_test: EdgeUnderTest, at_s: float, event: Event) -> None:
    """Let one thing happen, as the reconcile loop or a signal would."""
    await asyncio.sleep(at_s)
    function = under_test.function
    if event == "ready":
        add_replica(under_test, under_test.address)
    elif event == "dead":
        add_replica(under_test, Address(path="/nonexistent/replica.sock"))
    elif event == "leave" and function.ready:
        function.ready[0].state = "draining"
        function.route()
    elif event == "remove":
        under_test.edge.table.remove(function.name)
        function.is_removed = True
        function.route()
    elif event == "drain":
        await under_test.edge.drain(0.05)


def add_replica(under_test: EdgeUnderTest, address: Address) -> None:
    function = under_test.function
    replica = Replica(function, f"r-{len(function.replicas)}", function.spec.revision, 0.0)
    replica.handle, replica.state = Handle(address), "ready"
    function.replicas[replica.id] = replica
    function.route()


def left_over(under_test: EdgeUnderTest, lines: Lines) -> dict[str, object]:
    """All that a call may hold and that is not at rest."""
    edge, function = under_test.edge, under_test.function
    numbers, pool = edge.numbers.of(LABEL), edge.pool
    found: dict[str, object] = {
        "places": sum(replica.in_flight for replica in function.replicas.values()),
        "waiting": len(function.waiting),
        "open calls": edge.open_calls,
        "open streams": numbers.open_streams,
        "in flight": numbers.in_flight,
        "clients": len(edge.clients),
        "idle clients": len(edge.idle),
        "connections": edge.numbers.connections_open,
        "looks": sum(len(slot) for slot in edge.wheel._slots.values()),
        "tasks": len(edge._tasks),
        "writes": len(edge.outbox._writes),
        "upstreams in use": len(pool._open) - sum(len(idle) for idle in pool._idle.values()),
        "calls without an end": numbers.started - sum(numbers.ends.values()),
        "calls without a status": numbers.started - sum(code.count for code in numbers.codes.values()),
        "calls without a line": numbers.started - len(lines.ids),
    }
    return {name: count for name, count in found.items() if count}


async def wait_at_rest(under_test: EdgeUnderTest, lines: Lines) -> None:
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while set(left := left_over(under_test, lines)) - {"looks"}:
        assert asyncio.get_running_loop().time() < deadline, left
        await asyncio.sleep(0.01)
    assert not left, "a client that left is not looked at again"


async def tell(story: Story) -> None:
    """Let it all happen, and look at what is left."""
    replicas, lines = Replicas(story.replies), Lines()
    wishes = {"com.tailrace.concurrency.max": str(story.places)}
    async with edge_before(replicas, annotations=wishes) as under_test:
        under_test.edge.settings = load({**SHORT, "queue_limit": story.queue}, env={})
        edge, function = under_test.edge, under_test.function
        edge.log = log = CallLog("json", lines.take, edge.numbers, edge.loop)
        async with asyncio.TaskGroup() as group:
            for at_s, event in story.events:
                group.create_task(happen(under_test, at_s, event))
            for caller in story.callers:
                group.create_task(caller.call(under_test.port))

        await wait_at_rest(under_test, lines)
        assert set(edge.numbers.of(LABEL).ends) <= ENDS
        assert {1} >= set(Counter(lines.ids).values())
        if not function.is_removed and not edge.is_draining:
            replicas.is_calm = True
            function.replicas.clear()
            add_replica(under_test, under_test.address)
            answer = await under_test.ask(
                b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            assert answer.endswith(b"\r\n\r\nok"), answer
            await wait_at_rest(under_test, lines)
        log.close()
        under_test.stop_replicas()
        await asyncio.gather(*under_test.tasks, return_exceptions=True)
        await asyncio.sleep(0.02)
        assert not edge.pool._open
        assert not edge.pool._idle


# None is made small: a story that fails takes LIMIT_S, and fails or not with the timing of its connections.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(STORIES)
def test_nothing_of_a_call_outlives_it(story: Story) -> None:
    """Places, queue, streams, timers, connections: at zero; each call with one end reason and one line."""
    run(tell(story))
