"""A whole gateway with a mock model beside it, in a thread, and functions from a few lines of source."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop

from tailrace.build.bundle import pack_folder
from tailrace.gateway import Gateway, open_gateway
from tailrace.llm.behaviour import Behaviour
from tailrace.llm.mock.record import ConnectionRecord, RequestRecord
from tailrace.llm.mock.server import MockServer, start_mock
from tailrace.model import LogLine
from tailrace.settings import load

LIMIT_S = 120.0


@dataclass
class Town:
    """A running gateway, the mock model its functions ask, and what they logged."""

    gateway: Gateway
    mock: MockServer
    work: Path
    loop: asyncio.AbstractEventLoop
    logged: list[LogLine] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def http(self) -> httpx.Client:
        """A client of the gateway, with the token that only this process has."""
        headers = {"Authorization": f"Bearer {self.gateway.admin_token}"} if self.gateway.admin_token else {}
        return httpx.Client(base_url=self.url, timeout=60, headers=headers)

    def deploy(
        self,
        name: str,
        handler: str,
        *,
        lang: str = "python3-flask",
        requirements: str = "",
        is_waiting: bool = True,
        env: Mapping[str, str] | None = None,
        **more: object,
    ) -> dict[str, object]:
        """Deploy a function from its source; its status once it is ready or has failed.

        Args:
            env: Its environment, beside what leads it to the mock model.
        """
        both = {"OPENAI_BASE_URL": self.mock.base_url, "OPENAI_API_KEY": "mock", **(env or {})}
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "handler.py").write_text(handler)
        (folder / "requirements.txt").write_text(requirements)
        with self.http() as http:
            return deploy(http, folder, lang=lang, is_waiting=is_waiting, envVars=both, **more)

    def call_in_loop(self, work: Callable[[], object]) -> None:
        """Run something in the gateway's own thread and wait for it."""

        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def connections(self) -> list[ConnectionRecord]:
        """The mock's connections that asked for an answer, oldest first."""
        found: list[ConnectionRecord] = []
        self.call_in_loop(lambda: found.extend(c for c in self.mock.log if c.requests))
        return found

    def last_request(self) -> RequestRecord:
        """What the mock was asked last."""
        return max((r for c in self.connections() for r in c.requests), key=lambda r: r.received_at)

    def log_text(self, call_id: str = "") -> str:
        """What functions logged, of one call or all."""
        return "".join(line.text for line in list(self.logged) if call_id in ("", line.call_id))


def deploy(
    http: httpx.Client, folder: Path, *, lang: str, is_waiting: bool = True, **more: object
) -> dict[str, object]:
    """Deploy the function in a folder, named as the folder; its status once it is ready or has failed."""
    bundle = pack_folder(folder, lang=lang, limit_bytes=1 << 20)
    image = f"{folder.name}:latest"
    http.put(
        f"/system/bundles/{bundle.digest}", params={"image": image}, content=bundle.data
    ).raise_for_status()
    body = {"service": folder.name, "image": image, **more}
    reply = http.put("/system/functions", json=body)
    if reply.status_code == 404:
        reply = http.post("/system/functions", json=body)
    assert reply.status_code == 202, reply.text
    params = {"wait": "55", "revision": reply.headers["x-tailrace-revision"]} if is_waiting else {}
    if "namespace" in more:
        params["namespace"] = str(more["namespace"])
    found: dict[str, object] = http.get(f"/system/function/{folder.name}", params=params).json()
    return found


@contextlib.contextmanager
def running_town(
    folder: Path,
    *,
    behaviour: Behaviour | None = None,
    flags: Mapping[str, object] | None = None,
    persistent: bool = False,
) -> Iterator[Town]:
    """A town below folder, running in a thread of its own until the context is left.

    Args:
        persistent: Keep deployments in the folder, for the next town there.
    """
    box: list[Town | BaseException] = []
    is_up = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        async with _town(folder, behaviour, flags or {}, persistent=persistent) as town:
            box.append(town)
            is_up.set()
            await over.wait()

    def run() -> None:
        try:
            uvloop.run(main())
        except BaseException as error:
            box.insert(0, error)
        finally:
            is_up.set()

    thread = threading.Thread(target=run, name="town")
    thread.start()
    try:
        assert is_up.wait(LIMIT_S)
        town = box[0]
        if isinstance(town, BaseException):
            raise town
        yield town
    finally:
        for end in stop:
            end()
        thread.join(30)
        assert not thread.is_alive(), "the gateway did not stop"
    if isinstance(box[0], BaseException):
        raise box[0]


@contextlib.asynccontextmanager
async def _town(
    folder: Path, behaviour: Behaviour | None, flags: Mapping[str, object], *, persistent: bool
) -> AsyncIterator[Town]:
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=persistent)
    mock = await start_mock(behaviour=behaviour)
    own = {"port": 0, "metrics_port": 0, "state_dir": folder / "state", "nats_url": "off"}
    settings = load({**own, **flags}, env={})
    async with open_gateway(settings, persistent=persistent) as gateway:
        town = Town(gateway, mock, work, asyncio.get_running_loop())

        async def collect() -> None:
            with gateway.logs.follow() as follower:
                async for line in follower:
                    town.logged.append(line)

        collecting = asyncio.ensure_future(collect())
        try:
            yield town
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
    await mock.aclose()
