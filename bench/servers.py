"""The servers of sync handlers that are compared: the same Flask generator in each, on a unix socket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.machine import accepts, child, family
from bench.native import Paced
from bench.proxies import RIVAL_PROGRAMS, RIVALS
from bench.rows import OURS
from bench.session import Contender, Session
from tests.kit.replica import loaded_replica

APP = "bench.rivals.app:app"
# Enough for every stream of the comparison, where a server asks for a number.
MANY = "1100"
# Everything once: imports, workers, threads.
WARM = Paced(20, 5, 20, limit_s=5.0)


@dataclass(frozen=True, slots=True)
class Server:
    """A server's name in the tables, and its command; ``{socket}`` in it becomes the socket's path."""

    name: str
    command: Sequence[str]


# What OpenFaaS's stock Python templates run: waitress as it comes.
STOCK = Server("waitress, 4 threads", ["waitress-serve", "--unix-socket={socket}", APP])
RIVAL_SERVERS = (
    Server(
        f"waitress, {MANY} threads",
        [
            *("waitress-serve", "--unix-socket={socket}", f"--threads={MANY}", f"--connection-limit={MANY}"),
            APP,
        ],
    ),
    Server(
        "gunicorn gthread",
        ["gunicorn", "--bind=unix:{socket}", "--worker-class=gthread", f"--threads={MANY}", APP],
    ),
    Server(
        "gunicorn gevent",
        ["gunicorn", "--bind=unix:{socket}", "--worker-class=gevent", f"--worker-connections={MANY}", APP],
    ),
    Server(
        "granian",
        [
            *("granian", "--interface=wsgi", "--uds={socket}", f"--blocking-threads={MANY}"),
            *(f"--backpressure={MANY}", "--log-level=warning", APP),
        ],
    ),
)


@contextlib.contextmanager
def serving(session: Session, server: Server) -> Iterator[Contender]:
    """One of the servers, accepting."""
    path = session.folder / f"{server.name.replace(', ', '-').replace(' ', '-')}.sock"
    program, *rest = (word.format(socket=path) for word in server.command)
    root = RIVALS.parent.parent
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "HOME": str(session.folder)}
    with child([RIVAL_PROGRAMS / program, *rest], cwd=session.folder, env=environment) as process:
        process.wait_for(lambda: accepts(str(path)), "start to listen")
        whom = Contender(server.name, f"unix:{path}", "/", [process.pid])
        session.stream(whom, WARM)
        # Some fork their workers after they listen: the family is whole once they have answered.
        yield replace(whom, pids=family(process.pid))


@contextlib.contextmanager
def runtime(session: Session) -> Iterator[Contender]:
    """Tailrace's own runtime, booted as the process provider boots it."""
    source = (RIVALS / "handler.py").read_text()
    with loaded_replica(source, kind="flask") as replica:
        whom = Contender(OURS, f"unix:{replica.path}", "/", [replica.process.pid])
        session.stream(whom, WARM)
        yield whom
