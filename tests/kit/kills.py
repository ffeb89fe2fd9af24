"""A gateway that is killed while it deploys, updates, removes or changes a secret, and what is left of it."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from tailrace.build.bundle import Process, pack_folder
from tests.kit.cli import Shell
from tests.kit.patience import wait_until
from tests.kit.served import Serve

T = TypeVar("T")
KINDS = ("deploy", "update", "remove", "secret")
# After so long the quickest of them is over; most kills come before.
LATEST_S = 0.08


@dataclass
class Wish:
    """What the gateway answered last, and what it may have taken in unanswered. None: not deployed."""

    answer: str | None = None
    maybe: list[str | None] = field(default_factory=list)
    secret: str = ""
    maybe_secret: list[str] = field(default_factory=list)


def kill_often(folder: Path, times: int, seed: int) -> list[str]:
    """Kill it so many times; whatever was neither the old state nor the new one, in words."""
    chance = random.Random(seed)
    serve, wish, wrong = Serve(Shell(folder), folder / "state"), Wish(), []
    for number in range(times):
        with serve.start() as (running, url), httpx.Client(base_url=url, timeout=20) as http:
            wrong += _look(http, wish)
            if number == 0:
                http.post("/system/secrets", json={"name": "key", "value": "first"}).raise_for_status()
                wish.secret = "first"
            kind = chance.choice(KINDS)
            timer = threading.Timer(
                chance.uniform(0, LATEST_S), os.kill, (running.process.pid, signal.SIGKILL)
            )
            timer.start()
            with suppress(httpx.HTTPError):
                _change(http, folder, wish, kind, f"v{number}")
            timer.join()
            running.process.wait(10)
        wrong += [str(path) for path in (folder / "state" / "functions").iterdir() if path.suffix != ".json"
                  and not path.name.startswith(".tmp-")]  # fmt: skip
    return wrong


def _change(http: httpx.Client, folder: Path, wish: Wish, kind: str, text: str) -> None:
    """Ask for one change, and note what is known of it afterwards."""
    if kind == "secret":
        _note(
            wish.maybe_secret, text, lambda: http.put("/system/secrets", json={"name": "key", "value": text})
        )
        wish.secret, wish.maybe_secret = text, []
    elif kind == "remove":
        _note(
            wish.maybe, None, lambda: http.request("DELETE", "/system/functions", json={"functionName": "fn"})
        )
        wish.answer, wish.maybe = None, []
    else:
        _note(wish.maybe, text, lambda: _deploy(http, folder, text))
        wish.answer, wish.maybe = text, []


def _note(maybe: list[T], value: T, ask: Callable[[], httpx.Response]) -> None:
    maybe.append(value)
    reply = ask()
    assert reply.status_code in (202, 404), reply.text


def _deploy(http: httpx.Client, folder: Path, text: str) -> httpx.Response:
    """A script that says text and its secret: it needs no environment, so a start takes a moment."""
    home = folder / "fn"
    home.mkdir(exist_ok=True)
    (home / "run.sh").write_text(f'printf "{text} "; cat "$secrets_path/key" 2>/dev/null || true\n')
    bundle = pack_folder(
        home, lang="own", limit_bytes=1 << 20, process=Process("sh run.sh", mode="streaming")
    )
    http.put(
        f"/system/bundles/{bundle.digest}", params={"image": "fn"}, content=bundle.data
    ).raise_for_status()
    body = {"service": "fn", "image": "fn", "secrets": ["key"]}
    reply = http.put("/system/functions", json=body)
    return http.post("/system/functions", json=body) if reply.status_code == 404 else reply


def _look(http: httpx.Client, wish: Wish) -> list[str]:
    """What is there after a restart: the function as it was or as it was to be, answering."""
    reply = http.get("/system/functions")
    there = [function["name"] for function in reply.json()]
    allowed = {wish.answer, *wish.maybe}
    wrong = []
    found: str | None = None
    secrets = {wish.secret, *wish.maybe_secret}
    if there:
        wait_until(lambda: http.post("/function/fn").status_code == 200, "the function answers again")
        found, secret = http.post("/function/fn").text.split(" ")
        if secret not in secrets:
            wrong.append(f"the secret is {secret!r}, and may be {secrets}")
        wish.secret, wish.maybe_secret = secret, []
    if found not in allowed:
        wrong.append(f"the function is {found}, and may be {allowed}")
    wish.answer, wish.maybe = found, []
    return wrong
