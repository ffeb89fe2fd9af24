"""Replicas die; the truth is told and the next call works."""

from __future__ import annotations

import os
import re
import signal
import time

import httpx
import pytest

from tests.kit.gateway import Town, running_town
from tests.kit.patience import wait_until

NATIVE = """
import asyncio
async def handle(event, context):
    for n in range(1000):
        yield f"{n}"
        await asyncio.sleep(0.02)
"""

SEED = """
import time
from flask import Response
def handle(req):
    def tell():
        for n in range(1000):
            yield f"data: {n}\\n\\n"
            time.sleep(0.02)
    return Response(tell(), mimetype="text/event-stream")
"""

RAISING = """
from flask import Response
def handle(req):
    if req == "before":
        raise ValueError("too early")
    def tell():
        for n in range(3):
            yield f"data: {n}\\n\\n"
        raise ValueError("too late")
    return Response(tell(), mimetype=req)
"""


@pytest.fixture(scope="module", autouse=True)
def functions(town: Town) -> None:
    """The functions of this module."""
    for name, source, lang in (
        ("native", NATIVE, "python3-stream"),
        ("seed", SEED, "python3-flask"),
        ("raising", RAISING, "python3-flask"),
    ):
        status = town.deploy(name, source, lang=lang)
        assert status.get("availableReplicas") == 1, status


def kill_replica(town: Town, name: str) -> None:
    function = next(f for f in town.gateway.table if f.name.name == name)
    handle = function.ready[0].handle
    assert handle is not None
    os.kill(handle.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_replica_killed_mid_stream_ends_a_native_stream_with_an_error_event(town: Town) -> None:
    """Exactly one error event, then the end; the next call is held for the next replica."""
    text = ""
    with httpx.stream("GET", f"{town.url}/function/native", timeout=30) as reply:
        for piece in reply.iter_text():
            if not text:
                kill_replica(town, "native")
            text += piece

    assert text.count("event: error\n") == 1
    assert '"code":"replica_failed"' in text
    assert text.endswith("event: end\ndata: {}\n\n")
    with httpx.stream("GET", f"{town.url}/function/native", timeout=30) as reply:
        assert reply.status_code == 200
        assert next(reply.iter_text()).startswith("data: 0\n\n")


@pytest.mark.slow
def test_a_replica_killed_mid_stream_cuts_an_unknown_stream(town: Town) -> None:
    """The seed's own SSE cannot carry an error: its body is never ended cleanly."""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("GET", f"{town.url}/function/seed", timeout=30) as reply,
    ):
        for n, _ in enumerate(reply.iter_text()):
            if not n:
                kill_replica(town, "seed")

    with httpx.stream("GET", f"{town.url}/function/seed", timeout=30) as reply:
        assert reply.status_code == 200


def test_an_error_before_the_first_byte_has_a_real_status(town: Town) -> None:
    """500, no traceback in the body, the traceback with the call id in the logs."""
    reply = httpx.post(f"{town.url}/function/raising", content="before")

    assert reply.status_code == 500
    assert "Traceback" not in reply.text
    assert "too early" in town.log_text(reply.headers["x-call-id"])


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
def test_an_error_after_the_first_byte_is_never_a_clean_end(town: Town, kind: str) -> None:
    """Unknown SSE and plain bodies are cut; every client notices."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{town.url}/function/raising", content=kind)


@pytest.mark.slow
def test_a_crash_loop_shows_in_describe_and_ends_a_held_call_with_503(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A handler that cannot be loaded: the deploy quotes its last lines, a call learns them too."""
    with running_town(tmp_path_factory.mktemp("loop"), flags={"queue_timeout_s": 1}) as town:
        status = town.deploy("broken", "import nonexistent_thing\n")
        tailrace = status["tailrace"]
        assert isinstance(tailrace, dict)
        assert tailrace["state"] == "failed"
        assert "nonexistent_thing" in tailrace["lastError"]
        assert "requirements.txt" in tailrace["lastError"]

        began = time.monotonic()
        reply = httpx.get(f"{town.url}/function/broken", timeout=30)

        assert reply.status_code == 503
        assert "nonexistent_thing" in reply.text
        assert time.monotonic() - began < 5
        with town.http() as http:
            shown = "/system/function/broken"
            wait_until(lambda: http.get(shown).json()["tailrace"]["failures"] >= 2, "a second failure")

        town.deploy("broken", "def handle(req):\n    return 'mended'\n")
        assert httpx.get(f"{town.url}/function/broken").text == "mended"


@pytest.mark.slow
def test_an_update_cuts_nobody_and_a_broken_one_takes_nothing_away(town: Town) -> None:
    """Running streams finish on the old code; new calls get the new; what cannot load never serves."""
    source = (
        "import time\nfrom flask import Response\ndef handle(req):\n    def tell():\n"
        "        for n in range(20):\n            yield f'data: VERSION {n}\\n\\n'\n"
        "            time.sleep(0.05)\n    return Response(tell(), mimetype='text/event-stream')\n"
    )
    town.deploy("rolling", source.replace("VERSION", "old"))
    with httpx.stream("GET", f"{town.url}/function/rolling", timeout=30) as reply:
        pieces = reply.iter_text()
        text = next(pieces)
        status = town.deploy("rolling", source.replace("VERSION", "new"))
        assert status["availableReplicas"] == 1
        with httpx.stream("GET", f"{town.url}/function/rolling", timeout=30) as fresh:
            assert "new 0" in next(fresh.iter_text())
        text += "".join(pieces)

    assert re.findall(r"old (\d+)", text) == [str(n) for n in range(20)]
    assert "new" not in text
    broken = town.deploy("rolling", "raise RuntimeError('no good')\n")
    assert "no good" in str(broken["tailrace"])
    with httpx.stream("GET", f"{town.url}/function/rolling", timeout=30) as reply:
        assert "new 0" in next(reply.iter_text())


@pytest.mark.slow
def test_a_removed_function_is_gone_and_its_running_stream_finishes(town: Town) -> None:
    """Deleting takes the name away at once and nobody's answer."""
    source = SEED.replace("1000", "10")
    town.deploy("leaving", source)
    with httpx.stream("GET", f"{town.url}/function/leaving", timeout=30) as reply, town.http() as http:
        pieces = reply.iter_text()
        text = next(pieces)
        assert (
            http.request("DELETE", "/system/functions", json={"functionName": "leaving"}).status_code == 202
        )
        assert http.get("/function/leaving").status_code == 404
        text += "".join(pieces)

    assert text.count("data:") == 10


@pytest.mark.slow
def test_what_a_handler_writes_beside_itself_is_its_replicas_alone(town: Town) -> None:
    """A deployment starts from its bundle, whatever an earlier replica wrote into its folder."""
    source = (
        "def handle(req):\n    with open('function/notes.txt', 'a') as notes:\n        notes.write('x')\n"
        "    return open('function/notes.txt').read()\n"
    )
    town.deploy("writer", source)
    assert [httpx.get(f"{town.url}/function/writer").text for _ in range(2)] == ["x", "xx"]

    town.deploy("writer", source, env={"AGAIN": "1"})

    assert httpx.get(f"{town.url}/function/writer").text == "x"


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["python3-flask", "python3-http", "python3-stream"])
def test_a_chunked_upload_reaches_every_kind_of_handler(town: Town, lang: str) -> None:
    """A client that does not know its body's length sends chunks; the handler gets the whole."""
    body = {"python3-flask": "req", "python3-http": "event.body.decode()", "python3-stream": "event.body"}[
        lang
    ]
    arguments = "req" if lang == "python3-flask" else "event, context"
    name = f"echo-{lang}"
    town.deploy(name, f"def handle({arguments}):\n    return {body}\n", lang=lang)

    with httpx.Client(base_url=town.url) as http:  # the second call shows that the connection is in order
        for _ in range(2):
            reply = http.post(f"/function/{name}", content=iter([b"ab", b"c" * 100_000, b"d"]))
            assert reply.text == "ab" + "c" * 100_000 + "d"
