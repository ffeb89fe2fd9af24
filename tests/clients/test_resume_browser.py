"""Runs in Chromium: a plain EventSource, and the page of examples/resume as a person uses it."""

from __future__ import annotations

import importlib.util
import json
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tailrace.cli.stackfile import load_stack
from tests.kit.browser import Page, page
from tests.kit.cli import Shell
from tests.kit.clients import built_client
from tests.kit.cutter import Cutter, Fault, cutter
from tests.kit.gateway import Town, deploy
from tests.kit.resuming import starts, told
from tests.kit.runs import NatsServer
from tests.kit.web import Quiet, serving

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "examples" / "resume"
TELLER = """
import asyncio

async def handle(event, context):
    print("started", flush=True)
    for number in range(300):
        yield f"{number} of it\\nü {number}"
        await asyncio.sleep(0.005)
"""
PACE = "sleep(0.12)"


@pytest.fixture(scope="module")
def town(recording_town: Town) -> Town:
    """A gateway that keeps runs, with the example as it stands, only faster, and a recorded teller."""
    recorded = {"com.tailrace.stream.record": "true"}
    recording_town.deploy("teller", TELLER, lang="python3-stream", annotations=recorded)
    answer = (EXAMPLE / "answer" / "handler.py").read_text()
    assert 1 == answer.count(PACE)
    hurried = answer.replace(PACE, "sleep(0.02)").replace(
        "    question", '    print("started", flush=True)\n    question', 1
    )
    for function in load_stack(EXAMPLE / "stack.yaml", {}).functions:
        assert function.handler is not None
        more: dict[str, object] = {"lang": function.lang, "annotations": dict(function.annotations)}
        if function.name.name == "answer":
            status = recording_town.deploy("answer", hurried, **more)  # type: ignore[arg-type]  # what deploy takes
        else:
            with recording_town.http() as http:
                status = deploy(http, function.handler, **more)  # type: ignore[arg-type]  # what deploy takes
        assert status.get("availableReplicas") == 1, status
    return recording_town


@pytest.fixture
def proxy(town: Town) -> Iterator[Cutter]:
    """What stands between the browser and the gateway."""
    with cutter(town.port) as made:
        yield made


@pytest.fixture
def shown(proxy: Cutter) -> Iterator[Page]:
    """The example's page, reached through the proxy."""
    with page(f"{proxy.url}/function/page/") as found:
        yield found


def _whole_answer() -> str:
    spec = importlib.util.spec_from_file_location("answer", EXAMPLE / "answer" / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.ANSWER.format(question="What is a tailrace?") + " "
    return text


def _ask(shown: Page) -> None:
    shown.ask("document.getElementById('ask').click()")


def _text(shown: Page) -> str:
    found: str = shown.ask("document.getElementById('text').textContent")
    return found


def _wait_text(shown: Page, length: int) -> None:
    shown.wait(f"document.getElementById('text').textContent.length > {length}")


def _wait_state(shown: Page, *states: str) -> str:
    state = "document.getElementById('answer').dataset.state"
    found: str = shown.wait(f"{json.dumps(states)}.includes({state}) && {state}")
    return found


def test_an_eventsource_resumes_by_itself_and_stays_away_from_a_finished_run(
    town: Town, proxy: Cutter
) -> None:
    """The browser alone: every event once after a cut; after the end it comes back once, for a 204."""
    before = starts(town)

    with page(f"{proxy.url}/function/page") as shown:
        shown.ask(
            "window.seen = []; window.source = new EventSource('/function/teller');"
            "source.onmessage = (event) => seen.push(event.data); null"
        )
        shown.wait("seen.length > 40")
        proxy.cut_all()
        shown.wait("source.readyState === EventSource.CLOSED")
        seen = shown.ask("seen")

    assert told(300) == seen
    assert 1 == starts(town) - before


def test_the_page_reads_across_cuts(town: Town, proxy: Cutter, shown: Page) -> None:
    """Each word once, from one start."""
    before = starts(town)

    _ask(shown)
    for length in (50, 200, 400):
        _wait_text(shown, length)
        proxy.faults = deque([Fault(0)])
        proxy.cut_all()

    assert "whole" == _wait_state(shown, "whole", "failed", "stopped")
    assert _whole_answer() == _text(shown)
    assert 1 == starts(town) - before


def test_a_reload_goes_on_with_the_answer(town: Town, shown: Page) -> None:
    """Also twice, and after the end: the same run, all of it."""
    before = starts(town)

    _ask(shown)
    for length in (100, 300):
        _wait_text(shown, length)
        shown.reload()
    first = _wait_state(shown, "whole", "failed", "stopped")
    run = shown.ask("document.querySelector('#run code').textContent")
    shown.reload()

    assert ("whole", "whole") == (first, _wait_state(shown, "whole", "failed", "stopped"))
    assert _whole_answer() == _text(shown)
    assert run == shown.ask("document.querySelector('#run code').textContent")
    assert 1 == starts(town) - before


def test_a_reload_before_the_answers_head_starts_nothing_anew(town: Town, proxy: Cutter, shown: Page) -> None:
    """The page has no id yet, and asks again under the key that it kept."""
    before = starts(town)

    proxy.cut_all()  # those that the browser keeps open, so that the next one has the fault
    proxy.faults = deque([Fault(0, "stall")])
    _ask(shown)
    with town.http() as http:
        for _ in range(2000):
            if starts(town) > before:
                break
            http.get("/healthz")
    shown.reload()

    assert "whole" == _wait_state(shown, "whole", "failed", "stopped")
    assert _whole_answer() == _text(shown)
    assert 1 == starts(town) - before


def test_stop_stops_and_the_page_says_so(town: Town, shown: Page) -> None:
    """Also after a reload: what was said, and that it was stopped."""
    _ask(shown)
    _wait_text(shown, 100)
    shown.ask("document.getElementById('stop').click()")
    state, text = _wait_state(shown, "whole", "failed", "stopped"), _text(shown)
    run = shown.ask("document.querySelector('#run code').textContent")
    shown.reload()

    assert ("stopped", "stopped") == (state, _wait_state(shown, "whole", "failed", "stopped"))
    assert 100 < len(text) < len(_whole_answer())
    assert (text, True) == (_text(shown), _whole_answer().startswith(text))
    with town.http() as http:
        assert "cancelled" == http.get(f"/run/{run}").json()["state"]


def test_a_tab_that_was_frozen_or_offline_goes_on(town: Town, proxy: Cutter, shown: Page) -> None:
    """Its connection is lost meanwhile; when it is back it has every word, and nothing began anew."""
    before = starts(town)

    _ask(shown)
    _wait_text(shown, 50)
    shown.set_frozen(True)
    proxy.cut_all()
    shown.set_frozen(False)
    _wait_text(shown, 200)
    shown.set_offline(True)
    proxy.cut_all()
    _wait_state(shown, "waiting", "connecting")
    shown.set_offline(False)

    assert "whole" == _wait_state(shown, "whole", "failed", "stopped")
    assert _whole_answer() == _text(shown)
    assert 1 == starts(town) - before


def test_after_the_gateways_death_the_page_shows_what_was_recorded_and_says_so(tmp_path: Path) -> None:
    """kill -9 and a new start: the part that was written down, and that it is not all; no second run."""
    nats_folder = tmp_path / "nats"
    nats_folder.mkdir()
    shell = Shell(tmp_path, {"TAILRACE_STATE_DIR": str(tmp_path / "state")})
    with NatsServer(nats_folder) as nats:
        serve = ("serve", "--nats-url", nats.url, "--metrics-port", "off", "--port")
        with shell.start(*serve, "0") as first:
            url = first.wait_for(r"http://127\.0\.0\.1:\d+").group()
            stack = str(EXAMPLE / "stack.yaml")
            deployed = shell.run("deploy", "-f", stack, "--gateway", url)
            assert deployed.returncode == 0, deployed.stderr
            with page(f"{url}/function/page/") as shown:
                _ask(shown)
                _wait_text(shown, 60)
                first.process.send_signal(signal.SIGKILL)
                first.process.wait()
                _wait_state(shown, "waiting", "connecting")
                with shell.start(*serve, url.rpartition(":")[2]) as second:
                    second.wait_for(r"http://127\.0\.0\.1:\d+")
                    state, text = _wait_state(shown, "whole", "failed", "stopped"), _text(shown)
                    words = shown.ask("document.getElementById('status').textContent")
                    runs = httpx.get(f"{url}/runs").json()["runs"]

    assert "failed" == state
    assert 60 < len(text) < len(_whole_answer())
    assert _whole_answer().startswith(text)
    assert words.startswith("This is not all of it: ")
    assert [("failed", "replica_lost")] == [(run["state"], run["end_reason"]) for run in runs]


def test_the_examples_client_is_the_one_that_is_built() -> None:
    """A copy, so that the example needs no npm: `npm run build` in clients/js makes what it must equal."""
    built = (built_client() / "tailrace-client.min.js").read_bytes()

    assert built == (EXAMPLE / "page" / "tailrace-client.js").read_bytes()


def test_a_page_of_another_origin_watches_and_stops_a_run(town: Town) -> None:
    """As one of a development server does: the gateway lets this machine's pages, and Chromium agrees."""
    script = (built_client() / "tailrace-client.min.js").read_bytes()

    class Elsewhere(Quiet):
        def do_GET(self) -> None:  # http.server's name
            is_script = self.path == "/client.js"
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
            self.end_headers()
            self.wfile.write(script if is_script else b"<!doctype html><title>elsewhere</title>")

    with (
        serving(Elsewhere) as origin,
        page(origin.replace("127.0.0.1", "localhost")) as shown,
        httpx.stream("GET", f"{town.url}/function/teller", timeout=30) as first,  # it talks for 1.5 s
    ):
        run = first.headers["x-call-id"]
        seen = shown.ask(
            f"""(async () => {{
                const {{ attach }} = await import("/client.js");
                const answer = attach("{town.url}/run/{run}");
                let seen = 0;
                try {{
                    for await (const event of answer) if (++seen === 20) await answer.stop();
                }} catch (error) {{
                    return [seen, error.code];
                }}
                return [seen, "none"];
            }})()"""
        )
    record = httpx.get(f"{town.url}/run/{run}").json()

    assert "cancelled" == record["state"]
    assert 20 <= seen[0] < 300
