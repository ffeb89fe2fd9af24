"""Behaviour 20: the metrics say what happened to calls, streams and their ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from pathlib import Path

import httpx
import pytest

from tailrace.errors import AddressTaken
from tailrace.gateway import open_gateway
from tailrace.settings import load
from tests.kit.gateway import Town, running_town
from tests.kit.loops import run
from tests.kit.metrics import Scrape, scrape, wait_scrape

TTFT_S = 0.7

# A control frame and pings before the model says anything, as careful handlers send them.
CHAT = """
import asyncio
from openai import AsyncOpenAI
client = AsyncOpenAI()

async def handle(event, context):
    context.content_type = "text/event-stream"
    yield b": hello\\n\\nevent: status\\ndata: {\\"state\\": \\"thinking\\"}\\n\\n"
    for _ in range(3):
        await asyncio.sleep(0.05)
        yield b": ping\\n\\n"
    stream = await client.chat.completions.create(
        model="mock?ttft=0.55&tps=50&tokens=20", stream=True,
        messages=[{"role": "user", "content": "x"}],
    )
    async with stream:
        async for chunk in stream:
            yield b"data: " + chunk.model_dump_json().encode() + b"\\n\\n"
    yield b"data: [DONE]\\n\\n"
"""

# How a call of it ends stands in its body.
ENDS = """
import asyncio, os

async def handle(event, context):
    context.content_type = "text/event-stream"
    yield b"data: 1\\n\\n"
    wish = event.body.decode()
    if wish == "error":
        raise ValueError("as wished")
    if wish == "die":
        await asyncio.sleep(0.05)
        os._exit(3)
    if wish == "wait":
        await asyncio.sleep(60)
    yield b"data: 2\\n\\n"
"""


@pytest.fixture(scope="module", autouse=True)
def functions(town: Town) -> None:
    """The functions of this module."""
    for name, source, needs, wishes in (
        ("chat", CHAT, "openai\n", {"com.tailrace.stream.heartbeat": "100ms"}),
        ("ends", ENDS, "", {"com.tailrace.timeout.idle": "400ms"}),
    ):
        status = town.deploy(name, source, lang="python3-stream", requirements=needs, annotations=wishes)
        assert status.get("availableReplicas") == 1, status


def url(town: Town) -> str:
    return town.gateway.metrics.url


def ended(found: Scrape, name: str, reason: str) -> float:
    return found.value("tailrace_calls_total", function_name=f"{name}.openfaas-fn", end_reason=reason)


def has_ended(found: Scrape, times: int) -> bool:
    """Whether the chat has answered so often."""
    return ended(found, "chat", "done") == times


@pytest.mark.slow
def test_first_content_is_the_models_first_token(town: Town) -> None:
    """A control frame, pings and heartbeats before it do not count: 700 ms are told as 700 +- 50 ms."""
    call = f"{town.url}/function/chat"
    headers = {"Accept": "text/event-stream"}
    name = "tailrace_first_content_seconds"
    tries: list[tuple[float, float, float]] = []
    for done in range(1, 5):
        before = wait_scrape(url(town), partial(has_ended, times=done - 1))
        assert ": ping" in httpx.post(call, content="x", headers=headers, timeout=30).text
        after = wait_scrape(url(town), partial(has_ended, times=done))

        took_s = after.value(f"{name}_sum") - before.value(f"{name}_sum")
        slower, faster = (
            after.value(f"{name}_bucket", le=le) - before.value(f"{name}_bucket", le=le)
            for le in ("0.65", "0.8")
        )
        tries.append((took_s, slower, faster))
        # The first one makes the model's client; a machine may be busy.
        if done > 1 and abs(took_s - TTFT_S) <= 0.05:
            break
    took_s, slower, faster = tries[-1]
    assert TTFT_S - 0.05 <= took_s <= TTFT_S + 0.05, tries
    assert (0.0, 1.0) == (slower, faster)


@pytest.mark.slow
def test_gaps_are_those_between_tokens(town: Town) -> None:
    """50 tokens a second are 20 ms apart on the whole, however a busy machine bunches some of them."""
    httpx.post(f"{town.url}/function/chat", content="x", timeout=30)

    found = scrape(url(town))

    name = "tailrace_event_gap_seconds"
    count = found.value(f"{name}_count", function_name="chat.openfaas-fn")
    assert count >= 15
    assert 0.015 <= found.value(f"{name}_sum") / count <= 0.03
    assert found.value("tailrace_stream_events_total", function_name="chat.openfaas-fn") > count


@pytest.mark.slow
def test_ends_are_counted_by_reason(town: Town) -> None:
    """Each call once, by how it ended; afterwards no stream is open and no place is taken."""
    call = f"{town.url}/function/ends"
    before = scrape(url(town))

    httpx.post(call, content="done", timeout=30)
    for wish in ("error", "wait", "die"):
        with contextlib.suppress(httpx.RemoteProtocolError):
            httpx.post(call, content=wish, timeout=30)
    with httpx.stream("POST", call, content="wait", timeout=30) as reply:
        pieces = reply.iter_raw()  # the client leaves when nobody holds it
        next(pieces)
        streaming = scrape(url(town))

    reasons = ("done", "error_function", "timeout_idle", "replica_died", "client_gone")

    def counts(found: Scrape) -> list[float]:
        return [ended(found, "ends", reason) - ended(before, "ends", reason) for reason in reasons]

    after = wait_scrape(url(town), lambda s: sum(counts(s)) >= len(reasons))
    assert [1.0] * len(reasons) == counts(after)
    assert 1.0 == streaming.value("tailrace_open_streams", function_name="ends.openfaas-fn")
    assert 1.0 == streaming.value("gateway_function_invocation_inflight", function_name="ends.openfaas-fn")
    for gauge in ("tailrace_open_streams", "gateway_function_invocation_inflight", "tailrace_queue_depth"):
        assert 0.0 == after.value(gauge), gauge
    started = after.value("gateway_function_invocation_started", function_name="ends.openfaas-fn")
    assert started == after.value("tailrace_calls_total", function_name="ends.openfaas-fn")
    assert started == after.value("gateway_function_invocation_total", function_name="ends.openfaas-fn")
    assert started == after.value("gateway_functions_seconds_count", function_name="ends.openfaas-fn")


def test_names_that_nobody_deployed_make_no_series(town: Town) -> None:
    """Whoever asks for a thousand names does not fill the memory of Prometheus."""
    for n in range(5):
        httpx.get(f"{town.url}/function/none-{n}")

    assert "none-" not in scrape(url(town)).text


def test_it_tells_of_a_call_that_is_waiting(town: Town) -> None:
    """A function without a replica: its queue is seen."""
    town.deploy("late", "import time\ntime.sleep(1.5)\ndef handle(req):\n    return 'x'\n", is_waiting=False)
    with socket.create_connection(("127.0.0.1", town.port)) as sock:
        sock.sendall(b"GET /function/late HTTP/1.1\r\nHost: x\r\n\r\n")

        found = wait_scrape(url(town), lambda s: s.value("tailrace_queue_depth") == 1)

    assert 1.0 == found.value("gateway_service_count", function_name="late.openfaas-fn")
    wait_scrape(url(town), lambda s: s.value("tailrace_queue_depth") == 0)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example:8082"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_web_pages_get_no_metrics(town: Town, headers: dict[str, str]) -> None:
    """The port is open to every page in a browser on this machine, and to names rebound to it."""
    assert 403 == httpx.get(url(town), headers=headers).status_code


def test_health_and_other_paths(town: Town) -> None:
    """`/healthz` for whoever watches the port; nothing else is there."""
    base = url(town).removesuffix("/metrics")

    assert [200, 404, 404, 405] == [
        httpx.get(f"{base}/healthz").status_code,
        httpx.get(f"{base}/").status_code,
        httpx.get(f"{base}/function/chat").status_code,
        httpx.post(f"{base}/metrics").status_code,
    ]


def test_a_taken_port_is_an_error_or_another_port(tmp_path: Path) -> None:
    """`serve` says what to do; `up` may take a free one and knows why."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            flags = {"port": 0, "metrics_port": port, "state_dir": tmp_path / "state"}
            settings = load(flags, env={})
            with pytest.raises(AddressTaken) as refused:
                async with open_gateway(settings, persistent=True):
                    raise AssertionError("it started")
            assert "--metrics-port" in refused.value.text
            async with open_gateway(settings, persistent=False, may_move_metrics=True) as gateway:
                assert f"127.0.0.1:{port} is taken" in gateway.metrics.moved_because
                assert f":{port}/" not in gateway.metrics.url

    run(main())


def test_off_means_no_port(tmp_path: Path) -> None:
    """`--metrics-port off`."""
    with running_town(tmp_path, flags={"metrics_port": "off"}) as town:
        assert "" == town.gateway.metrics.url


@pytest.mark.slow
def test_what_a_drain_ends_is_told_until_the_end(tmp_path: Path) -> None:
    """The metrics are there while the gateway drains, and say which calls had to be ended."""
    with running_town(tmp_path, flags={"drain_s": "0"}) as town:
        town.deploy("ends", ENDS, lang="python3-stream")
        with httpx.stream("POST", f"{town.url}/function/ends", content="wait", timeout=30) as reply:
            pieces = reply.iter_raw()
            next(pieces)
            asyncio.run_coroutine_threadsafe(town.gateway.drain(), town.loop).result(10)

            found = scrape(url(town))

        assert 1.0 == ended(found, "ends", "drain")
        assert 0.0 == found.value("tailrace_open_streams")
