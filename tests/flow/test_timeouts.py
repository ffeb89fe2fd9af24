"""Behaviour 7: four clocks, each of which ends what it is for and nothing else.

What people set in minutes is scaled by 30: the gateway's defaults, ``exec_timeout``, and the silences.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.kit.gateway import Town, running_town
from tests.kit.loops import run
from tests.kit.patience import wait_until

pytestmark = pytest.mark.slow

SCALE = 30
DEFAULTS = {
    "queue_timeout_s": 30 / SCALE,
    "start_timeout_s": 60 / SCALE,
    "idle_timeout_s": 60 / SCALE,
    "early_head_s": 5 / SCALE,
    "heartbeat_s": 15 / SCALE,
    "total_timeout_s": 4,  # no default of ours: a function that wants none has to be believed
}
EVENTS = "text/event-stream"
ACCEPTS = ("*/*", "application/json", "application/json, text/event-stream", EVENTS)
# How much later than its clock a call may end. A clock that runs ahead is never right.
LATE_S = 0.3

# Each thinks, then says that it streams, then thinks again, speaks, and hangs; how long is the caller's wish.
FLASK = """
import json, time
from flask import Response
CHAT = '{"object":"chat.completion.chunk","choices":[],"id":"%d"}'
FRAMES = {"chat": f"data: {CHAT}\\n\\n", "own": "data: %d\\n\\n"}

def handle(req):
    wish = json.loads(req)
    time.sleep(wish["think"])
    if wish["kind"] == "whole":
        return "said 0"
    def tell():
        try:
            time.sleep(wish["again"])
            for n in range(wish["count"]):
                yield FRAMES[wish["kind"]] % n
                time.sleep(wish["gap"])
            time.sleep(wish["hang"])
        finally:
            print("stopped")
    return Response(tell(), mimetype="text/event-stream")
"""
STREAM = """
import asyncio, json

async def handle(event, context):
    wish = json.loads(event.body)
    try:
        await asyncio.sleep(wish["think"] + wish["again"])
        for n in range(wish["count"]):
            yield f"{n}"
            await asyncio.sleep(wish["gap"])
        await asyncio.sleep(wish["hang"])
    finally:
        print("stopped")
"""
HTTP = """
import asyncio, json

async def handle(event, context):
    await asyncio.sleep(json.loads(event.body)["think"])
    return {"statusCode": 200, "body": "said 0"}
"""
HANDLERS = {
    "flask": (FLASK, "python3-flask"),
    "stream": (STREAM, "python3-stream"),
    "http": (HTTP, "python3-http"),
}
ENDLESS = {"com.tailrace.timeout.total": "none", "com.tailrace.stream.heartbeat": "300ms"}
# Which handlers are deployed under which settings; a function is named `<handler>-<settings>`.
SETTINGS: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, str]]] = {
    "bare": (("flask",), {}, {}),
    "exec": (("flask", "stream", "http"), {"exec_timeout": f"{90 // SCALE}s"}, {}),
    # 1 s in the check, where the head of an event stream is held for 5 s: below early_head_s here too.
    "start": (("flask", "stream"), {}, {"com.tailrace.timeout.start": "100ms"}),
    "idle": (("flask", "stream"), {}, ENDLESS | {"com.tailrace.timeout.idle": "2s"}),
    "lively": (("flask", "stream"), {}, ENDLESS | {"com.tailrace.timeout.idle": "500ms"}),
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A gateway whose defaults are scaled, and each handler under each setting."""
    with running_town(tmp_path_factory.mktemp("town"), flags=DEFAULTS) as town:
        for setting, (handlers, env, annotations) in SETTINGS.items():
            for handler in handlers:
                source, lang = HANDLERS[handler]
                town.deploy(
                    f"{handler}-{setting}",
                    source,
                    lang=lang,
                    env=env,
                    annotations=annotations,
                    is_waiting=False,
                )
        wait_until(lambda: all(function.ready for function in town.gateway.table), "all are ready", 60)
        yield town


@dataclass(frozen=True)
class Answer:
    """What one call came to, and when: its request was sent, its function spoke last, it ended."""

    kind: str
    accept: str
    status: int
    text: str
    is_cut: bool
    asked_at: float
    spoke_at: float
    ended_at: float

    @property
    def took_s(self) -> float:
        return self.ended_at - self.asked_at

    @property
    def error(self) -> dict[str, str]:
        """What the one error frame says, in whichever dialect."""
        told = [json.loads(line[6:]) for line in self.text.splitlines() if line.startswith("data: {")]
        (found,) = [event.get("error", event) for event in told if "error" in event or "code" in event]
        return {name: str(value) for name, value in found.items()}


async def ask(
    http: httpx.AsyncClient,
    name: str,
    accept: str,
    kind: str,
    headers: dict[str, str] | None = None,
    **wish: float,
) -> Answer:
    """One call of a function."""
    body = {"think": 0.0, "again": 0.0, "count": 1, "gap": 0.0, "hang": 0.0, **wish, "kind": kind}
    asked_at = spoke_at = time.monotonic()
    text, is_cut, status = "", False, 0
    try:
        async with http.stream(
            "POST", f"/function/{name}", json=body, headers={"Accept": accept, **(headers or {})}
        ) as reply:
            status = reply.status_code
            async for piece in reply.aiter_text():
                text += piece
                if "data: " in piece and "rror" not in piece:
                    spoke_at = time.monotonic()
    except httpx.RemoteProtocolError:
        is_cut = True
    return Answer(kind, accept, status, text, is_cut, asked_at, spoke_at, time.monotonic())


def client(town: Town) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=town.url, timeout=60)


def combinations(setting: str) -> list[tuple[str, str, str]]:
    """Every function under a setting, every kind of answer it gives, every Accept that fits the answer."""
    kinds = {"flask": ("whole", "own", "chat"), "stream": ("own",), "http": ("whole",)}
    return [
        (f"{handler}-{setting}", accept, kind)
        for handler in SETTINGS[setting][0]
        for kind in kinds[handler]
        for accept in ACCEPTS
        if not (kind == "whole" and accept == EVENTS)  # who wants only events cannot be given a text late
    ]


def ends(town: Town, name: str) -> dict[str, int]:
    """Why the calls of a function ended."""
    return dict(town.gateway.edge.numbers.of(f"{name}.openfaas-fn").ends)


def test_exec_timeout_alone_lets_a_silent_handler_answer(town: Town) -> None:
    """90 s are set, it is silent for 80 s: it answers, though every default is 60 s or less."""

    async def main() -> None:
        async with client(town) as http:
            found = await asyncio.gather(
                *(ask(http, *one, think=80 / SCALE) for one in combinations("exec")),
                ask(http, "flask-exec", "*/*", "chat", again=80 / SCALE),
                ask(http, "flask-exec", "*/*", "chat", hang=80 / SCALE),
            )

        assert [(200, False)] * len(found) == [(one.status, one.is_cut) for one in found]
        assert {one.kind for one in found if "rror" in one.text} == set()
        for one in found:
            assert one.took_s >= 80 / SCALE
            assert "0" in one.text

    run(main())


def test_without_it_the_default_of_60_s_ends_the_same_call(town: Town) -> None:
    """504, and the body names the clock, its value, and what to set."""

    async def main() -> None:
        async with client(town) as http:
            found = await ask(http, "flask-bare", "*/*", "whole", think=80 / SCALE)

        assert (504, True) == (found.status, "(start=2s)" in found.text)
        assert "com.tailrace.timeout.start or exec_timeout" in found.text
        assert 2.0 <= found.took_s <= 2.0 + LATE_S

    run(main())


def test_exec_timeout_ends_what_takes_longer(town: Town) -> None:
    """After 90 s, whatever the Accept; a caller may shorten it and not lengthen it."""

    async def main() -> None:
        async with client(town) as http:
            calls = [ask(http, *one, think=100 / SCALE) for one in combinations("exec")]
            longer = ask(http, "flask-exec", "*/*", "whole", {"X-Timeout": "1h"}, think=100 / SCALE)
            shorter = ask(http, "flask-exec", "*/*", "whole", {"X-Timeout": "500ms"}, think=100 / SCALE)
            short, *found = await asyncio.gather(shorter, longer, *calls)

        assert (504, True) == (short.status, "(total=0.5s)" in short.text)
        assert 0.5 <= short.took_s
        for one in found:
            assert 3.0 <= one.took_s
            assert "=3s)" in one.text
            assert one.status == (200 if one.accept == EVENTS else 504)
            if one.accept == EVENTS:
                assert one.error["code"] in ("timeout_start", "timeout_total")
        assert min(one.took_s for one in found) <= 3.0 + LATE_S

    run(main())


def test_the_start_clock_gives_504_to_every_accept(town: Town) -> None:
    """`start=1s` is over before anybody was given a head: a real status, for readers of events too."""

    async def main() -> None:
        async with client(town) as http:
            found = await asyncio.gather(
                *(ask(http, *one, think=5) for one in combinations("start")),
                *(ask(http, f"{handler}-start", EVENTS, "own", again=5) for handler in SETTINGS["start"][0]),
            )

        assert [504] * len(found) == [one.status for one in found]
        assert [True] * len(found) == ["(start=0.1s)" in one.text for one in found]
        assert 0.1 <= min(one.took_s for one in found) <= 0.1 + LATE_S

    run(main())
    assert {"timeout_start"} == set(ends(town, "flask-start")) | set(ends(town, "stream-start"))


def test_silence_ends_a_stream_though_heartbeats_flowed(town: Town) -> None:
    """3 s of silence end at 2.0 to 2.3 s, with an error that names `idle=2s`; what cannot tell it is cut."""

    async def main() -> None:
        async with client(town) as http:
            native, chat, own = await asyncio.gather(
                *(
                    ask(http, f"{handler}-idle", "*/*", kind, count=3, gap=0.1, hang=3)
                    for handler, kind in (("stream", "own"), ("flask", "chat"), ("flask", "own"))
                )
            )

        for one in (native, chat, own):
            assert 200 == one.status
            assert 4 <= one.text.count(": ping\n") <= 6
            assert 1.99 <= one.ended_at - one.spoke_at <= 2.0 + LATE_S  # it came here later than to the edge
        assert [False, False, True] == [one.is_cut for one in (native, chat, own)]
        for one in (native, chat):
            assert "timeout_idle" == one.error["code"]
            assert "idle=2s" in one.error["message"]

    stopped = town.log_text().count("stopped")
    run(main())
    assert {"timeout_idle"} == set(ends(town, "flask-idle")) | set(ends(town, "stream-idle"))
    wait_until(lambda: town.log_text().count("stopped") >= stopped + 3, "the handlers were stopped")


def test_a_stream_that_speaks_in_time_goes_on(town: Town) -> None:
    """Events twice as often as the idle clock asks for, for 12 times its length, longer than any total."""

    async def main() -> None:
        async with client(town) as http:
            found = await asyncio.gather(
                *(
                    ask(http, f"{handler}-lively", "*/*", kind, count=24, gap=0.25)
                    for handler, kind in (("stream", "own"), ("flask", "chat"))
                )
            )

        for one in found:
            assert (200, False) == (one.status, one.is_cut)
            assert "rror" not in one.text
            assert 24 == one.text.count("data: ") - one.text.count("data: {}\n")
            assert one.took_s >= 5.5 > DEFAULTS["total_timeout_s"]

    run(main())
