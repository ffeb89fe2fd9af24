"""The line per call and the metrics of `serve` and `up`, as whoever runs them sees them."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import DEFAULT, Running, Shell
from tests.kit.metrics import scrape, wait_scrape

pytestmark = pytest.mark.slow

LINE = (
    r"call_id=[a-z2-7]{26} function=%s method=%s status=%d end_reason=%s bytes=\d+"
    r" first_byte_s=(?:\d+\.\d{4}|-) total_s=\d+\.\d{4} client=127\.0\.0\.1%s$"
)


@contextmanager
def serve(folder: Path, *args: str) -> Iterator[tuple[Running, str]]:
    """`tailrace serve`, and its URL."""
    state = ("--state-dir", str(folder / "state"))
    with Shell(folder).start("serve", "--port", "0", *state, *args) as running:
        yield running, running.wait_for(r"^tailrace +listening on (\S+)$")[1]


def test_serve_writes_a_line_per_call(tmp_path: Path) -> None:
    """On a line of its own, without secrets; a caller's own id stands at the end."""
    with serve(tmp_path) as (running, url):
        httpx.post(f"{url}/function/none?token=hush", headers={"X-Call-Id": "order-17"}, content="hush")

        line = LINE % ("none", "POST", 404, "refused", " client_call_id=order-17")
        running.wait_for(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z " + line)
        assert running.stop(signal.SIGTERM)[0] == 0
        assert "hush" not in running.text


def test_a_hostile_name_stays_on_its_line(tmp_path: Path) -> None:
    """What a stranger asks for is quoted: nothing in it looks like another line or field."""
    with (
        serve(tmp_path) as (running, url),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock,
    ):
        sock.sendall(b'GET /function/x%0Astatus=200"\\ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        while sock.recv(65536):
            pass
        httpx.get(f"{url}/function/next")
        running.wait_for("function=next ")

    lines = [line for line in running.text.splitlines() if "call_id=" in line]
    assert 2 == len(lines)
    assert all(re.search(LINE % (r'(?:"(?:[^"\\]|\\.)*"|\S+)', "GET", 404, "refused", ""), x) for x in lines)


def test_the_log_is_json_when_asked(tmp_path: Path) -> None:
    """One object per line, behind a trusted proxy with the caller's own address."""
    with serve(tmp_path, "--log-format", "json", "--trusted-proxies", "127.0.0.1") as (running, url):
        httpx.get(f"{url}/function/none", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})

        found = json.loads(running.wait_for(r"^\{.*\}$")[0])

    assert ("none", 404, "refused", "203.0.113.7", None) == tuple(
        found[key] for key in ("function", "status", "end_reason", "client", "first_byte_s")
    )


def test_the_log_can_be_off(tmp_path: Path) -> None:
    """`--log-format off`."""
    with serve(tmp_path, "--log-format", "off") as (running, url):
        httpx.get(f"{url}/function/none")
        running.stop(signal.SIGTERM)

    assert "none" not in running.text.partition("listening on")[2]


def test_a_reader_that_does_not_read_holds_no_call_up(tmp_path: Path) -> None:
    """A pager that is not scrolled, a collector that hangs: lines are lost and counted, calls are not."""
    asked = b"GET /function/%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"n" * 250) * 100
    with serve(tmp_path) as (running, url):  # nobody reads what it writes from here on
        metrics = running.wait_for(r"metrics at (\S+)$")[1]
        until = time.monotonic() + 60
        answered = 0
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock:
            while not scrape(metrics).value("tailrace_log_lines_dropped_total"):
                assert time.monotonic() < until
                for _ in range(10):
                    sock.sendall(asked)
                    answered += count_answers(sock, 100)

        assert answered > 2 * 1024 * 1024 / 500
        assert running.stop(signal.SIGTERM)[0] == 0
        assert 0 < running.text.count("call_id=") < answered


def count_answers(sock: socket.socket, count: int) -> int:
    """Read until so many answers began, and the last one has ended."""
    data = b""
    while data.count(b"HTTP/1.1 404") < count or not data.endswith(b"-f stack.yaml\n"):
        piece = sock.recv(1 << 20)
        assert piece
        data += piece
    return count


def test_serve_refuses_a_taken_port_for_the_metrics(tmp_path: Path) -> None:
    """A server whose metrics were elsewhere would be watched by nobody."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = Shell(tmp_path).run("serve", "--port", "0", "--metrics-port", port)

    assert done.returncode == 1
    assert f"error: the port of the metrics: 127.0.0.1:{port} is taken by '" in done.stderr
    assert "--metrics-port" in done.stderr


def test_up_shows_calls_and_moves_its_metrics(tmp_path: Path) -> None:
    """A call stands among the platform's words; a taken default port is no reason not to start."""
    shell = Shell(tmp_path)
    assert shell.run("new", "talk").returncode == 0
    try:
        taken = socket.create_server(("127.0.0.1", 8082))
    except OSError:  # by somebody else: as good
        taken = socket.socket()
    with taken, shell.start("up", "--port", "0", TAILRACE_METRICS_PORT=DEFAULT) as running:
        url = running.wait_for(r"^tailrace +(http://\S+)  Ctrl-C")[1]
        metrics = running.wait_for(r"^tailrace +metrics at (\S+): 127\.0\.0\.1:8082 is taken by ")[1]
        running.wait_for(r"^talk +ready in")
        httpx.post(f"{url}/function/talk", content="x", timeout=30)

        running.wait_for(r"^tailrace +" + LINE % (r"talk\.openfaas-fn", "POST", 200, "done", ""))
        found = wait_scrape(metrics, lambda s: s.value("gateway_function_invocation_total", code="200") == 1)
        assert 1.0 == found.value("gateway_service_ready_count", function_name="talk.openfaas-fn")
