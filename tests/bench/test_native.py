"""The benchmarks' source and sink do what they say, and see what is wrong with an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.machine import cpu_s, python
from bench.native import Paced, Programs, Seen, build, find_compiler, open_source, read_seen, sink
from tests.kit.needs import missing

# Undefined behaviour and memory errors end the program with a report instead of a figure.
SANITIZED = ("-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
EVENTS = Paced(2, 3, 5)
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Source and sink, built strictly and with the sanitizers."""
    if find_compiler() is None:
        missing("there is no C compiler; to run this test: sudo apt-get install -y gcc libc6-dev")
    folder = tmp_path_factory.mktemp("native")
    try:
        return build(folder, flags=SANITIZED)
    except SystemExit as refused:
        if "cannot find" not in str(refused):  # the linker, of libasan or libubsan
            raise
    return build(folder, flags=("-Werror",))


def _run(programs: Programs, arguments: list[str]) -> Seen:
    with sink(programs, arguments) as process:
        return read_seen(process)


@pytest.mark.slow
def test_streams_arrive_whole_and_timed(programs: Programs, tmp_path: Path) -> None:
    """2 streams of 3 events: all are seen, in order, later than they were sent; the source agrees."""
    with open_source(programs, tmp_path / "s") as source:
        seen = _run(programs, EVENTS.arguments(source.address, "/"))
        sent = source.end()

    assert (2, 6, 0) == (seen.completed, seen.events, seen.failed.total)
    assert 6 * EVENTS.size == seen.bytes
    assert 0 < seen.latency_ms.p50 <= seen.latency_ms.p99 <= seen.latency_ms.most
    assert (2, 6, 0, 0) == (sent.streams, sent.events, sent.bad_requests, sent.abandoned)
    assert min(sent.cpu_s, seen.cpu_s) > 0


@pytest.mark.slow
def test_a_stream_at_full_speed_waits_for_its_reader(programs: Programs, tmp_path: Path) -> None:
    """More than the sockets hold, of events that are larger than a read: nothing is lost."""
    paced = Paced(2, 200, 0, size=60_000)

    with open_source(programs, tmp_path / "s") as source:
        seen = _run(programs, paced.arguments(source.address, "/"))
        sent = source.end()

    assert (2, 400, 0) == (seen.completed, seen.events, seen.failed.total)
    assert 0 == sent.abandoned


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_small_requests_are_asked_again_and_again(
    programs: Programs, tmp_path: Path, more: list[str]
) -> None:
    """As many answers as the source gave, each of the right length."""
    with open_source(programs, tmp_path / "s") as source:
        where = ["requests", "--to", source.address, "--connections", "2", "--seconds", "0.05"]
        seen = _run(programs, [*where, *more])
        sent = source.end()

    assert seen.completed > 2
    assert (seen.completed, 0) == (sent.requests, seen.failed.total)
    assert 128 * seen.completed == seen.bytes


@pytest.mark.slow
def test_idle_connections_are_held_and_used_again(programs: Programs, tmp_path: Path) -> None:
    """A line once all are answered; after stdin's end every one of them answers once more."""
    with open_source(programs, tmp_path / "s") as source:
        with sink(programs, ["idle", "--to", source.address, "--connections", "5"]) as process:
            held = process.line()
            process.ask_to_end()
            seen = read_seen(process)
        sent = source.end()

    assert '{"held":5}' == held
    assert (10, 10, 0) == (seen.completed, sent.requests, seen.failed.total)


@contextmanager
def _answering(path: Path, answer: bytes) -> Iterator[str]:
    """A server that answers one connection with these bytes and closes it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            thread.join(10)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(number: int) -> bytes:
    return b'data: {"at":"%010d %020d"}\n\n' % (number, 1)


BROKEN: list[tuple[str, bytes, Callable[[Seen], int]]] = [
    ("status", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", lambda seen: seen.failed.status),
    ("no end", b"HTTP/1.1 200 OK\r\n\r\n", lambda seen: seen.failed.framing),
    ("two ends", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
     lambda seen: seen.failed.framing),
    ("bare newline", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", lambda seen: seen.failed.framing),
    ("chunk size", HEAD + b"x\r\n", lambda seen: seen.failed.framing),
    ("surplus", HEAD + _chunk(_event(0) + _event(1)) + b"0\r\n\r\nmore", lambda seen: seen.failed.framing),
    ("cut", HEAD + _chunk(_event(0)), lambda seen: seen.failed.cut),
    ("fault", HEAD + _chunk(_event(0)) + b"1;tailrace-fault\r\n", lambda seen: seen.failed.cut),
    ("one too few", HEAD + _chunk(_event(0)) + b"0\r\n\r\n", lambda seen: seen.failed.events),
    ("disorder", HEAD + _chunk(_event(1) + _event(0)) + b"0\r\n\r\n", lambda seen: seen.failed.events),
    ("half an event", HEAD + _chunk(_event(0) + _event(1)[:-1]) + b"0\r\n\r\n",
     lambda seen: seen.failed.events),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "counted"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
def test_an_answer_that_is_wrong_is_counted_under_its_reason(
    programs: Programs, tmp_path: Path, answer: bytes, counted: Callable[[Seen], int]
) -> None:
    """Never as completed."""
    with _answering(tmp_path / "s", answer) as address:
        seen = _run(programs, Paced(1, 2, 5).arguments(address, "/"))

    assert (0, 1, 1) == (seen.completed, seen.failed.total, counted(seen))


def test_events_are_found_wherever_they_are_cut(programs: Programs, tmp_path: Path) -> None:
    """A chunk of one byte each, comments between events, and a trailer."""
    body = b": ping\n\n" + _event(0) + b": ping\n" + _event(1)
    answer = HEAD + b"".join(_chunk(bytes([byte])) for byte in body) + b"0\r\nX-A: b\r\n\r\n"

    with _answering(tmp_path / "s", answer) as address:
        seen = _run(programs, Paced(1, 2, 5).arguments(address, "/"))

    assert (1, 2, 0) == (seen.completed, seen.events, seen.failed.total)
    assert 2 == seen.late_events  # they say that they were sent at the machine's start


def test_a_connection_that_is_refused_and_one_that_is_not_answered_are_told(
    programs: Programs, tmp_path: Path
) -> None:
    """Refused at once; not answered when the limit is over."""
    refused = _run(programs, Paced(2, 1, 5).arguments(f"unix:{tmp_path}/none", "/"))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent")
        silent.listen()
        waiting = _run(programs, Paced(2, 1, 5, limit_s=0.1).arguments(f"unix:{tmp_path}/silent", "/"))

    assert (0, 2) == (refused.completed, refused.failed.refused)
    assert (0, 2) == (waiting.completed, waiting.failed.time)


@pytest.mark.slow
def test_the_edge_of_the_benchmarks_answers_and_logs(programs: Programs, tmp_path: Path) -> None:
    """Streams and requests go through it, and each call has its line."""
    log = tmp_path / "calls.log"

    with (
        open_source(programs, tmp_path / "s") as source,
        python("bench.edge", f"{source.path}", f"{log}") as edge,
    ):
        address = f"127.0.0.1:{edge.line()}"
        streams = _run(programs, EVENTS.arguments(address, "/function/fn/"))
        where = ["requests", "--to", address, "--path", "/function/fn/", "--seconds", "0.05"]
        small = _run(programs, where)
        used_s = cpu_s([edge.pid])
        edge.ask_to_end()
        edge.process.wait(10)

    assert (2, 6, 0) == (streams.completed, streams.events, streams.failed.total)
    assert small.completed > 1
    assert 0 == small.failed.total
    assert 2 + small.completed == log.read_text().count("end_reason=done")
    assert used_s > 0
