"""Asynchronous calls while gateway, worker and NATS are killed: which are lost, and which came how often."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tailrace.build.bundle import Process, pack_folder
from tests.kit.cli import Shell
from tests.kit.receiver import Delivered, Receiver, receiving
from tests.kit.runs import NatsServer, free_port
from tests.kit.served import Serve, working

# What the function takes: kills meet calls that are being made.
SLOW_S = 0.05
FLAGS = (
    "--async-lease-s", "1", "--async-retry-min-wait-s", "0.2", "--async-retry-max-wait-s", "2",
    "--callback-allow-private", "--drain-s", "1",
)  # fmt: skip


@dataclass
class Chaos:
    """What was accepted, and what came of it."""

    accepted: list[str] = field(default_factory=list)
    came: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> list[str]:
        """Accepted calls whose result never came."""
        return [run for run in self.accepted if not self.came[run]]


@contextlib.contextmanager
def receiving_in_thread(port: int = 0) -> Iterator[Receiver]:
    """A receiver that lives beside synchronous code; port 0 takes a free one."""
    box: list[Receiver] = []
    is_up, is_over = threading.Event(), threading.Event()

    async def main() -> None:
        async with receiving(port) as receiver:
            box.append(receiver)
            is_up.set()
            while not is_over.is_set():
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert is_up.wait(20)
        yield box[0]
    finally:
        is_over.set()
        thread.join(20)


def deploy_script(http: httpx.Client, folder: Path, script: str, **more: object) -> None:
    """A function that is a shell script: it needs no environment, so a start takes a moment."""
    home = folder / "fn"
    home.mkdir(exist_ok=True)
    (home / "run.sh").write_text(script)
    process = Process("sh run.sh", mode="streaming")
    bundle = pack_folder(home, lang="own", limit_bytes=1 << 20, process=process)
    http.put(
        f"/system/bundles/{bundle.digest}", params={"image": "fn"}, content=bundle.data
    ).raise_for_status()
    body = {"service": "fn", "image": "fn", **more}
    http.post("/system/functions", json=body).raise_for_status()
    status = http.get("/system/function/fn", params={"wait": "30"}).json()
    assert status["availableReplicas"] == 1, status


@dataclass
class Town:
    """A NATS, a gateway and a worker apart from it, each a process that can be killed and started again."""

    folder: Path
    nats: NatsServer
    port: int
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    pids: dict[str, int] = field(default_factory=dict)
    stacks: dict[str, contextlib.ExitStack] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, what: str) -> None:
        """Start it, and wait until it is ready, where that can be told."""
        if what == "nats":
            self.nats.start()
            return
        stack = self.stacks[what] = contextlib.ExitStack()
        shell = Shell(self.folder)
        if what == "gateway":
            serve = Serve(shell, self.folder / "state")
            flags = ("--port", str(self.port), "--nats-url", self.nats.url, "--async-queues", "off", *FLAGS)
            running, _ = stack.enter_context(serve.start(*flags))
        else:
            running = stack.enter_context(working(shell, self.nats.url, self.url, *FLAGS))
        self.pids[what] = running.process.pid

    def kill(self, what: str) -> None:
        """What kill -9 does."""
        if what == "nats":
            self.nats.kill()
            return
        os.kill(self.pids[what], signal.SIGKILL)
        self.stacks[what].close()

    def close(self) -> None:
        """End them all."""
        for stack in self.stacks.values():
            stack.close()
        self.nats.kill()


def run_chaos(folder: Path, *, calls: int, kills: int, seed: int, limit_s: float) -> Chaos:
    """Send so many calls while something is killed so many times; wait until all results came."""
    chance, chaos = random.Random(seed), Chaos()
    (folder / "nats").mkdir()
    town = Town(folder, NatsServer(folder / "nats"), free_port())
    with receiving_in_thread() as receiver:

        def count(came: Delivered) -> tuple[int, str]:
            chaos.came[came.run] += 1
            return 200, ""

        receiver.answer = count
        try:
            for what in ("nats", "gateway", "worker"):
                town.start(what)
            with httpx.Client(base_url=town.url, timeout=30) as http:
                deploy_script(http, folder, f"sleep {SLOW_S}; cat\n")
            killer = threading.Thread(target=_kill_often, args=(town, chance, kills, chaos))
            killer.start()
            _send_all(town, receiver.url, calls, chaos, killer)
            killer.join()
            deadline = time.monotonic() + limit_s
            while chaos.lost and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            town.close()
    return chaos


def _kill_often(town: Town, chance: random.Random, kills: int, chaos: Chaos) -> None:
    for _ in range(kills):
        what = chance.choice(("nats", "gateway", "worker"))
        time.sleep(chance.uniform(0.1, 1.0))
        town.kill(what)
        chaos.kills[what] += 1
        town.start(what)


def _send_all(town: Town, callback: str, calls: int, chaos: Chaos, killer: threading.Thread) -> None:
    """One after the other, spread over the kills; what is not accepted is sent as another call."""
    with httpx.Client(timeout=20) as http:
        while len(chaos.accepted) < calls:
            with contextlib.suppress(httpx.HTTPError):
                reply = http.post(
                    f"{town.url}/async-function/fn", content=b"hi", headers={"X-Callback-Url": callback}
                )
                if reply.status_code == 202:
                    chaos.accepted.append(reply.headers["x-call-id"])
            time.sleep(0.08 if killer.is_alive() else 0.0)
