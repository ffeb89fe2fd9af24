"""Behaviour 24: Python dependencies and logs just work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tailrace.build.bundle import Process
from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town
from tests.kit.patience import best_s
from tests.kit.processes import deploy_process

pytestmark = pytest.mark.slow
REQUIREMENTS = "numpy\npandas\nopenai\n"
SCIENCE = """
import numpy, pandas, openai

def handle(req):
    table = pandas.DataFrame({"a": numpy.arange(4)})
    return f"{table.a.sum()} {openai.__name__} VERSION"
"""
TALKS = """
def handle(req):
    print("said", req)
    if req == "fail":
        return 1 / 0
    return "ok"
"""
TALKS_ASYNC = """
async def handle(event, context):
    word = event.body.decode()
    print("said", word)
    if word == "fail":
        1 / 0
    yield "ok"
"""
COMPILERS = ("cc", "gcc", "c++", "g++", "clang", "gfortran", "rustc", "cargo")
SECOND_DEPLOY_S = 3.0
LOGGED_S = 1.0


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose compilers only write down that they were asked."""
    folder, found = tmp_path / "compilers", tmp_path / "asked"
    folder.mkdir()
    for name in COMPILERS:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {found}\nexit 1\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for variable in ("CC", "CXX", "FC"):
        monkeypatch.setenv(variable, str(folder / "cc"))
    return found


def wait_ready(town: Town, name: str, revision: object, limit_s: float) -> None:
    """Until that revision answers; fails with its last error when it cannot."""
    until = time.monotonic() + limit_s
    with town.http() as http:
        while True:
            params = {"wait": "55", "revision": str(revision)}
            found = http.get(f"/system/function/{name}", params=params).json()["tailrace"]
            if found["state"] == "ready":
                return
            assert not found.get("lastError"), found["lastError"]
            assert time.monotonic() < until, found


@pytest.mark.timeout(400)
def test_numpy_pandas_and_openai_are_there_without_a_compiler(tmp_path: Path, asked: Path) -> None:
    """And new code over the same requirements answers within 3 s, its imports included."""
    versions = iter(range(100))
    with running_town(tmp_path) as town:
        first = town.deploy("science", SCIENCE, requirements=REQUIREMENTS)
        wait_ready(town, "science", first["tailrace"]["revision"], 300)  # type: ignore[index]  # an object

        def deploy_again() -> float:
            version = f"v{next(versions)}"
            began = time.monotonic()
            town.deploy("science", SCIENCE.replace("VERSION", version), requirements=REQUIREMENTS)
            answer = httpx.post(f"{town.url}/function/science", timeout=60).text
            took_s = time.monotonic() - began
            assert f"6 openai {version}" == answer
            return took_s

        best = best_s(deploy_again, SECOND_DEPLOY_S, tries=8)

    assert not asked.exists(), asked.read_text()
    assert best < SECOND_DEPLOY_S


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A plain handler, an async one, and a server of its own that prints."""
    index = (
        "from http.server import BaseHTTPRequestHandler, HTTPServer\n\n"
        "class Handler(BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        word = self.rfile.read(int(self.headers['Content-Length'])).decode()\n"
        "        print('said', word)\n"
        "        status = 500 if word == 'fail' else 200\n"
        "        self.send_response(status)\n"
        "        self.send_header('Content-Length', '0')\n"
        "        self.end_headers()\n"
        "        if word == 'fail':\n"
        "            1 / 0\n\n"
        "HTTPServer(('0.0.0.0', 5000), Handler).serve_forever()\n"
    )
    with running_town(tmp_path_factory.mktemp("talking")) as town:
        town.deploy("plain", TALKS)
        town.deploy("async", TALKS_ASYNC, lang="python3-stream")
        own = Process("python index.py", upstream_url="http://127.0.0.1:5000")
        deploy_process(town, "own", {"index.py": index}, own)
        yield town


@pytest.mark.parametrize(("name", "knows_calls"), [("plain", True), ("async", True), ("own", False)])
def test_prints_and_tracebacks_are_followed_within_a_second(
    talking: Town, tmp_path: Path, name: str, knows_calls: bool
) -> None:
    """With the id of their call, which its answer carries; a server of its own knows no ids."""
    shell = Shell(tmp_path, {"OPENFAAS_URL": talking.url})
    words = iter(range(100))
    with shell.start("logs", name, "--follow", "--json") as logs:
        httpx.post(f"{talking.url}/function/{name}", content="first", timeout=20)
        logs.wait_for("said first")  # it follows

        def follow(word: str, pattern: str) -> tuple[float, str]:
            """Seconds from a call to its line, and the call's id."""
            after = len(logs.text)
            began = time.monotonic()
            reply = httpx.post(f"{talking.url}/function/{name}", content=word, timeout=20)
            found = logs.wait_for(f'^.*"text": ?"[^"\\n]*{pattern}.*$', after=after)
            took_s = time.monotonic() - began
            line = json.loads(found[0])
            if knows_calls:
                assert reply.headers["x-call-id"] == line["callId"]
            return took_s, reply.headers["x-call-id"]

        printed_s = best_s(lambda: follow(word := f"word-{next(words)}", f"said {word}")[0], LOGGED_S)
        raised_s = best_s(lambda: follow("fail", "ZeroDivisionError")[0], LOGGED_S)

    assert printed_s < LOGGED_S
    assert raised_s < LOGGED_S
