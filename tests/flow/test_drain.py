"""How a gateway ends: calls finish or are told, and whoever asks twice does not wait."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Running, Shell
from tests.kit.loops import run
from tests.kit.served import Caller, Serve, replicas_of

pytestmark = pytest.mark.slow

# Says "0", "1", ... every 0.1 s; how many is the query.
HANDLER = """
import asyncio

async def handle(event, context):
    for i in range(int(event.query["n"])):
        yield str(i)
        await asyncio.sleep(0.1)
"""
FLASK = """
import time

def handle(req):
    time.sleep(0.5)
    return "whole"
"""
END = "event: end\ndata: {}\n\n"


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """A state directory with `talk`, which streams, and `whole`, which answers after 0.5 s."""
    folder = tmp_path_factory.mktemp("serve")
    serve = Serve(Shell(folder), folder / "state")
    with serve.start() as (running, url):
        serve.deploy(url, "talk", HANDLER)
        serve.deploy(url, "whole", FLASK, lang="python3-flask")
        assert running.stop(signal.SIGTERM)[0] == 0
    return serve


async def open_streams(url: str, count: int, events: int) -> list[Caller]:
    """That many streams of so many events, each past its first one."""
    return await asyncio.gather(*(Caller.stream(url, f"/function/talk?n={events}") for _ in range(count)))


async def ended(running: Running) -> int:
    """The exit code, once it has ended."""
    return await asyncio.to_thread(running.wait_end)


def test_every_open_stream_finishes_after_sigterm(serve: Serve) -> None:
    """50 streams of 3 s: all 50 have every event and their clean end, and the gateway ends when they have."""

    async def main() -> None:
        with serve.start() as (running, url):
            callers = await open_streams(url, 50, 30)

            running.process.send_signal(signal.SIGTERM)
            texts = await asyncio.gather(*(caller.read_rest() for caller in callers))
            last = time.monotonic()
            code = await ended(running)

            assert (0, True) == (code, time.monotonic() - last < 1.0)
            assert "draining: 50 calls may finish within 30 s" in running.text
            whole = [t for t in texts if all(f"data: {i}\n\n" in t for i in range(30)) and END in t]
            assert 50 == len(whole)

    run(main())


def test_what_does_not_finish_in_time_is_told_so(serve: Serve) -> None:
    """With drain_s=1 a longer stream ends with the error `drain` after 1 to 1.5 s; a short one is whole."""

    async def main() -> None:
        with serve.start("--drain-s", "1") as (running, url):
            callers = await open_streams(url, 5, 100)
            short = await Caller.stream(url, "/function/talk?n=4")

            running.process.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            texts = await asyncio.gather(*(caller.read_rest() for caller in callers))
            took_s = time.monotonic() - begin
            code = await ended(running)

            assert 1.0 <= took_s < 1.5
            assert (0, True) == (code, END in await short.read_rest())
            for text in texts:
                assert text.count("event: error") == 1
                frame = text.partition("event: error\ndata: ")[2].partition("\n")[0]
                assert "drain" == json.loads(frame)["code"]
            assert "5 of them were ended after 1 s (drain_s)" in running.text

    run(main())


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_ctrl_c_cuts_it_short(serve: Serve, first: signal.Signals) -> None:
    """Under a second, with exit code 130; the streams do not look complete, and no replica is left."""

    async def main() -> None:
        with serve.start() as (running, url):
            callers = await open_streams(url, 20, 100)
            assert replicas_of(serve.state)

            running.process.send_signal(first)
            running.process.send_signal(first)  # so soon it is the same press, passed on by a wrapper
            running.wait_for("draining: 20 calls")
            await asyncio.sleep(0.3)
            begin = time.monotonic()
            running.process.send_signal(signal.SIGINT)
            code = await ended(running)

            assert (130, True) == (code, time.monotonic() - begin < 1.0)
            assert [] == replicas_of(serve.state)
            for caller in callers:
                assert not looks_complete(await rest_of_cut(caller))

    run(main())


async def rest_of_cut(caller: Caller) -> str:
    """The text of a connection that may have been reset."""
    try:
        return await caller.read_rest()
    except ConnectionResetError:
        return caller.text


def looks_complete(text: str) -> bool:
    """Whether a client would take it for a whole answer: it ends, and no error frame says why."""
    return END in text and '"code":"stop"' not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_an_open_call_the_first_signal_ends_it(serve: Serve, number: signal.Signals) -> None:
    """Under a second, with NATS, replicas ready and a connection kept alive; the best of three."""
    times_s = []
    for _ in range(3):
        with serve.start("--drain-s", "20") as (running, url), httpx.Client() as http:
            assert "whole" == http.get(f"{url}/function/whole").text

            code, took_s = running.stop(number)

            assert code == 0
            assert "draining" not in running.text
        times_s.append(took_s)
        if took_s < 1.0:
            break
    assert min(times_s) < 1.0, times_s


def test_while_it_drains_nobody_new_comes_in(serve: Serve) -> None:
    """A new connection is refused, an idle one closed; a running call's answer says `Connection: close`."""

    async def main() -> None:
        with serve.start() as (running, url):
            stream, idle = await Caller.stream(url, "/function/talk?n=15"), await Caller.connect(url)
            idle.ask("/function/whole")
            await idle.read_until("whole")
            whole = await Caller.connect(url)
            whole.ask("/function/whole")
            await asyncio.sleep(0.1)  # so that it has its replica; what is not read yet is another test

            running.process.send_signal(signal.SIGTERM)
            running.wait_for("draining: 2 calls")

            assert "HTTP/1.1 200" in (await idle.read_rest())
            with pytest.raises(ConnectionRefusedError):
                await Caller.connect(url)
            answer = await whole.read_rest()
            assert answer.endswith("whole")
            assert "connection: close" in answer.lower()
            assert END in await stream.read_rest()
            assert 0 == await ended(running)

    run(main())


def test_ctrl_c_in_up_waits_for_no_open_tab(tmp_path: Path) -> None:
    """Who develops wants to be back at the prompt: three streams, under a second."""
    shell = Shell(tmp_path)
    assert 0 == shell.run("new", "talk").returncode
    (tmp_path / "talk/handler.py").write_text(HANDLER)

    async def main() -> None:
        with shell.start("up", "--port", "0", "--metrics-port", "off") as running:
            url = running.wait_for(r"^tailrace +(http://\S+)  Ctrl-C")[1]
            running.wait_for(r"^talk +ready in")
            callers = await open_streams(url, 3, 100)

            code, took_s = await asyncio.to_thread(running.stop)

            assert (0, True) == (code, took_s < 1.0), took_s
            assert [False] * 3 == [looks_complete(await rest_of_cut(caller)) for caller in callers]

    run(main())
