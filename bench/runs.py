"""Recording per event, 200 viewers of a run, the first event for who comes back, 1,000 queued calls.

``python -m bench.runs [--rounds N]``, or ``scripts/bench runs``: prints its figures, keeps none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench.machine import child, cpu_s, memory_kib, python, raise_file_limit
from bench.native import Paced, build, open_source
from bench.proxies import PREFIX, edge
from bench.queue import drain
from bench.session import Contender, Session, Weighed

LOADS = (Paced(64, 400, 25, ramp_s=0.5), Paced(500, 120, 50, ramp_s=1.0))
VIEWERS, VIEWED = 200, Paced(1, 250, 20)
RECONNECTS = 300


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """A nats-server with JetStream; its URL."""
    ports = folder / "ports"
    ports.mkdir()
    program = Path(sys.executable).parent / "nats-server"
    where = ("-sd", folder / "jetstream", "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", ports)
    with child([program, "-js", *where]) as process:
        process.wait_for(lambda: any(f.read_text().strip() for f in ports.iterdir()), "write its ports")
        found = next(iter(ports.iterdir()))
        yield str(json.loads(found.read_text())["nats"][0])


@contextlib.contextmanager
def recording(session: Session, nats_url: str, name: str) -> Iterator[Contender]:
    """A gateway that records, named so."""
    paths = (str(session.folder / f"{name}.log"), nats_url, str(session.folder / f"{name}.sock"))
    with python("bench.recording", str(session.source.path), *paths) as process:
        yield Contender(name, f"127.0.0.1:{process.line()}", PREFIX, [process.pid])


def cost(session: Session, nats_url: str) -> None:
    """CPU of the gateway per event, with and without recording."""
    with edge(session) as plain, recording(session, nats_url, "recorded") as recorded:
        for whom in (plain, recorded):
            session.warm_up(whom)
        for paced in LOADS:

            def stream(whom: Contender, paced: Paced = paced) -> Weighed:
                return session.stream(whom, paced)

            found = session.in_turn("events", [plain, recorded], stream)
            without, with_ = (
                statistics.median(w.us_per_event for w in found[whom.name]) for whom in (plain, recorded)
            )
            what = f"{paced.streams} streams of {1000 // paced.gap_ms} events/s"
            more = f"{with_ - without:.1f} us of CPU per event more"
            print(f"recording, {what}: {more} ({without:.1f} without, {with_:.1f} with)")


async def _open(port: int, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, float]:
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    return reader, writer, began


async def _start_run(port: int, paced: Paced) -> tuple[str, asyncio.Task[bytes]]:
    reader, writer, _ = await _open(port, f"{PREFIX}{paced.query}")
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    run = next(line[11:].strip() for line in head.split("\r\n") if line.lower().startswith("x-call-id:"))

    async def read() -> bytes:
        with contextlib.closing(writer):
            return await reader.read()

    return run, asyncio.ensure_future(read())


async def viewers(here: Contender, where: Contender) -> None:
    """Many viewers of one run that ``here`` runs, on ``where``."""
    run, first = await _start_run(_port(here), VIEWED)
    before, memory = cpu_s(where.pids), memory_kib(where.pids)
    opened = await asyncio.gather(*(_open(_port(where), f"/run/{run}/stream") for _ in range(VIEWERS)))
    bodies = await asyncio.gather(*(reader.read() for reader, _, _ in opened))
    await first
    assert all(body.count(b"\nid: ") == bodies[0].count(b"\nid: ") >= VIEWED.events for body in bodies)
    used = cpu_s(where.pids) - before
    kind = "the gateway that runs it" if where is here else "another gateway"
    print(
        f"{VIEWERS} viewers of one run of {1000 // VIEWED.gap_ms} events/s on {kind}: "
        f"{used / (VIEWERS * VIEWED.events) * 1e6:.0f} us of CPU per event and viewer, "
        f"{(memory_kib(where.pids) - memory) / VIEWERS:.0f} KiB per viewer; all complete"
    )


async def resume(here: Contender, where: Contender) -> None:
    """From the reconnect to the first event that is replayed."""
    run, first = await _start_run(_port(here), Paced(1, 2000, 5))
    await asyncio.sleep(2.5)
    took = []
    for at in range(RECONNECTS):
        reader, writer, began = await _open(_port(where), f"/run/{run}/stream?after={at}")
        await reader.readuntil(b"\nid: ")
        took.append((time.perf_counter() - began) * 1e3)
        writer.transport.abort()
    first.cancel()
    p50, p99 = statistics.median(took), sorted(took)[int(len(took) * 0.99)]
    kind = "the gateway that runs it" if where is here else "another gateway"
    print(f"resume on {kind}: first event after {p50:.1f} ms (p50), {p99:.1f} ms (p99), {RECONNECTS} times")


def _port(whom: Contender) -> int:
    return int(whom.address.rpartition(":")[2])


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench runs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="tr-bench-") as name:
        folder = Path(name)
        programs = build(folder)
        with open_source(programs, folder / "source.sock") as source, nats_server(folder) as nats_url:
            session = Session(programs, folder, source, rounds, False, raise_file_limit())
            cost(session, nats_url)
            with recording(session, nats_url, "one") as one, recording(session, nats_url, "two") as two:
                for where in (one, two):
                    uvloop.run(viewers(one, where))
                for where in (one, two):
                    uvloop.run(resume(one, where))
            drain(folder / "queue")
            if session.failures:
                sys.exit("error: calls failed:\n  " + "\n  ".join(session.failures))


if __name__ == "__main__":
    main()
