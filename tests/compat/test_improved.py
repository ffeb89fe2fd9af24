"""What OpenFaaS's gateway and watchdog are known to get wrong is right here: section 12 of the contract.

Each number of its list is held by a test of this page, by a row of the tables, or by a test that is named in
`HELD_ELSEWHERE`.
"""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tailrace.build.bundle import Process
from tests.compat.world import World, deployed, image, namespace, secret
from tests.kit.patience import wait_until
from tests.kit.processes import deploy_process

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
HELD_ELSEWHERE = [
    ("flow/test_streaming.py", 1, "events_arrive_within_50_ms_of_their_yield"),
    ("flow/test_error_frames.py", 2, "before_the_first_byte_it_is_500_with_json"),
    ("flow/test_deaths.py", 3, "a_replica_killed_mid_stream_cuts_an_unknown_stream"),
    ("flow/test_timeouts.py", 4, "exec_timeout_ends_what_takes_longer"),
    ("flow/test_deaths.py", 6, "an_update_cuts_nobody_and_a_broken_one_takes_nothing_away"),
    ("runtime/test_many_streams.py", 7, "500_streams_complete_at_once"),
    ("control/test_hostile.py", 12, "names_that_are_paths_are_refused"),
    ("flow/test_queue.py", 22, "a_caller_that_asked_for_it_sees_what_it_waits_for"),
]


@pytest.mark.parametrize(("file", "number", "promise"), HELD_ELSEWHERE)
def test_the_other_promises_are_held_where_this_page_says(file: str, number: int, promise: str) -> None:
    """What has a test of its own already; 9, 14, 16 and 17 are rows of the tables."""
    assert f"def test_{promise}(" in (ROOT / file).read_text(), number


@pytest.mark.parametrize("setting", ["http_buffer_req_body", "buffer_body"])
def test_a_setting_for_bodies_loses_no_prompt_of_a_stream(world: World, setting: str) -> None:
    """5: with it, of-watchdog reads the body away and the streaming path sends an empty one."""
    handler = (
        "from flask import Response\n\n"
        "def handle(req):\n"
        "    return Response(iter([req]), mimetype='text/event-stream')\n"
    )
    name = setting.replace("_", "-")
    world.town.deploy(name, handler, env={setting: "true"})

    reply = httpx.post(
        f"{world.town.url}/function/{name}", content=b"the prompt", headers={"Accept": "text/event-stream"}
    )

    assert (200, "the prompt") == (reply.status_code, reply.text)


def test_a_function_is_ready_when_it_can_answer_and_not_before(world: World) -> None:
    """8: there, health is green before the child listens; here the first call is held until it does."""
    handler = "import time\n\ntime.sleep(1)\n\ndef handle(req):\n    return 'loaded'\n"
    world.town.deploy("loads", handler, is_waiting=False)

    before = world.status("loads", "openfaas-fn")
    reply = httpx.post(f"{world.town.url}/function/loads", timeout=60)

    assert "availableReplicas" not in before
    assert (200, "loaded") == (reply.status_code, reply.text)


@pytest.mark.parametrize(
    "fault", [{"image": "lab/none:1"}, {"secrets": ["none"]}, {"envVars": {"no name": "x"}}], ids=str
)
def test_an_update_that_cannot_be_is_refused_and_changes_nothing(
    world: World, fault: dict[str, object]
) -> None:
    """10 and 11: there it is a 200 with an empty body, and "deployed"."""
    deployed("second")(world)
    before = world.http.get("/system/function/second").json()
    body = {"service": "second", "image": "ghcr.io/lab/second:0.1", **fault}

    reply = world.http.put("/system/functions", json=body)

    after = world.http.get("/system/function/second").json()
    assert 400 == reply.status_code
    assert reply.text.strip()
    assert before["tailrace"]["revision"] == after["tailrace"]["revision"]
    assert 200 == httpx.post(f"{world.town.url}/function/second", content=b"x").status_code


def test_secrets_are_readable_by_the_gateway_alone(world: World) -> None:
    """12: there they are files of mode 0644."""
    secret("api-key")(world)

    files = [p for p in (world.town.work.parent / "state" / "secrets").rglob("*") if p.is_file()]

    assert files
    assert {0o600} == {path.stat().st_mode & 0o777 for path in files}


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        ({}, "as built"),
        ({"envProcess": "./said.sh of the deployment"}, "of the deployment"),
        ({"envVars": {"fprocess": "./said.sh of the environment"}}, "of the environment"),
    ],
    ids=["image", "envProcess", "fprocess"],
)
def test_a_deployment_may_say_another_process(world: World, more: dict[str, object], answer: str) -> None:
    """13: there, what the environment says lost its name on the way."""
    files = {"said.sh": '#!/bin/sh\nshift 0\necho "$*"\n'}

    deploy_process(world.town, "says", files, Process("./said.sh as built", "streaming"), **more)

    reply = httpx.post(f"{world.town.url}/function/says", timeout=20)

    assert answer == reply.text.strip(), world.town.log_text()


def test_a_reply_does_not_get_its_requests_content_type(world: World) -> None:
    """18: there, an answer without one is said to be what was sent."""
    app = (
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'plain'})\n"
    )
    world.town.deploy("bare", app, lang="python3-asgi")

    reply = httpx.post(f"{world.town.url}/function/bare", json={})

    assert (200, "plain") == (reply.status_code, reply.text)
    assert "json" not in reply.headers.get("content-type", "")


def test_a_line_of_200_kb_stops_no_log_and_no_token_is_logged(world: World) -> None:
    """19: there, the reader of logs dies of a line over 64 KiB; and what is answered is private."""
    handler = (
        "from flask import Response\n\n"
        "def handle(req):\n"
        "    print('x' * 200_000)\n"
        "    print('after it')\n"
        "    return Response(iter(['data: a private token\\n\\n']), mimetype='text/event-stream')\n"
    )
    world.town.deploy("wordy", handler)

    answer = httpx.post(f"{world.town.url}/function/wordy", timeout=20).text

    wait_until(lambda: "after it" in world.town.log_text(), "the line after the long one is logged")
    lines = world.http.get("/system/logs", params={"name": "wordy"}).text.splitlines()
    assert "private" in answer
    assert 0 < max(map(len, lines)) < 64 * 1024
    assert not [line for line in lines if "private" in line]


def test_histograms_reach_beyond_ten_seconds(world: World) -> None:
    """21: an answer of a model takes minutes."""
    deployed("stream")(world)
    httpx.post(f"{world.town.url}/function/stream", timeout=20)

    text = httpx.get(f"{world.town.gateway.metrics.url}").text

    limits = re.findall(r'^gateway_functions_seconds_bucket{.*le="([\d.]+)"', text, re.MULTILINE)
    assert max(map(float, limits)) >= 300


def test_there_are_several_namespaces_and_more_than_five_replicas(world: World) -> None:
    """There, the free edition has one, and five replicas of a function."""
    for number in range(3):
        namespace(f"team-{number}")(world)
    image("second")(world)
    body = {"service": "second", "image": "ghcr.io/lab/second:0.1", "namespace": "team-2"}

    replies = [world.http.post("/system/functions", json=body)]
    wish = {"serviceName": "second", "replicas": 6, "namespace": "team-2"}
    replies.append(world.http.post("/system/scale-function/second", json=wish))

    wait_until(lambda: world.status("second", "team-2").get("availableReplicas") == 6, "six replicas", 60)
    assert [202, 202] == [reply.status_code for reply in replies]
    world.remove("second", "team-2")
