"""mock.server: pace, faults, HTTP, and the record of who hung up when."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tailrace.errors import AddressTaken, InvalidRequest
from tailrace.llm.behaviour import Behaviour
from tailrace.llm.mock import ConnectionLog, start_mock
from tests.kit.model import Mock, running_mock


@pytest.fixture(params=["asyncio", "uvloop"])
def mock(request: pytest.FixtureRequest) -> Iterator[Mock]:
    with running_mock(is_uvloop=request.param == "uvloop") as running:
        yield running


def body_for(knobs: str = "", *, stream: bool = True) -> bytes:
    return json.dumps({
        "model": f"mock?{knobs}", "stream": stream, "messages": [{"role": "user", "content": "hello"}]
    }).encode()  # fmt: skip


def request_for(knobs: str = "", *, stream: bool = True, version: str = "1.1") -> bytes:
    body = body_for(knobs, stream=stream)
    head = f"POST /v1/chat/completions HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def connect(mock: Mock) -> socket.socket:
    return socket.create_connection(("127.0.0.1", mock.port), timeout=10)


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    """What comes, up to and with the mark or the end."""
    data = b""
    while mark not in data and (piece := sock.recv(65536)):
        data += piece
    return data


def ask_json(mock: Mock, path: str, method: str = "GET") -> Any:
    reply = httpx.request(method, mock.server.url + path, timeout=10, trust_env=False)
    reply.raise_for_status()
    return reply.json()


def test_tokens_come_at_the_pace_that_was_asked_for(mock: Mock) -> None:
    """First token after ttft, the others 1/tps apart on the whole: lateness never adds up."""
    with connect(mock) as sock:
        sock.sendall(request_for("ttft=0.1&tps=100&tokens=21"))
        read_until(sock, b"[DONE]")
    log = mock.wait(lambda log: log.client_closed == 1)

    (request,) = log.requests
    assert request.first_token_at is not None
    assert request.last_token_at is not None
    # Instants are kept from the request on, so a late first token makes no other late. A loaded machine
    # may be late by some hundredths; a millisecond early is the resolution of the loop's timers.
    assert 0.099 < request.first_token_at - request.received_at < 0.2
    assert 0.299 < request.last_token_at - request.received_at < 0.4
    assert (request.tokens_sent, request.outcome) == (21, "finish")


@pytest.mark.parametrize("moment", ["midway", "before the first token", "while not streaming", "stalled"])
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_client_that_leaves_is_noted_within_milliseconds(mock: Mock, moment: str, how: str) -> None:
    """Whatever the answer is doing, the log has the moment of the hang-up."""
    knobs = {
        "midway": "tps=10&tokens=100",
        "before the first token": "ttft=60",
        "while not streaming": "tps=1&tokens=60",
        "stalled": "stall_after=2",
    }
    sock = connect(mock)
    sock.sendall(request_for(knobs[moment], stream=moment != "while not streaming"))
    mock.wait(lambda log: bool(log.requests))
    if moment in ("midway", "stalled"):
        read_until(sock, b"!" if moment == "midway" else b"Hello")
    if how == "RST":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    left_at = time.monotonic()
    sock.close()
    log = mock.wait(lambda log: log.client_closed == 1)

    (connection,) = log
    assert connection.closed_at is not None
    assert -0.001 < connection.closed_at - left_at < 0.05
    assert connection.requests[0].outcome == "client_left"


def test_another_process_reads_who_hung_up(mock: Mock) -> None:
    """The list waits for as many hang-ups as asked, holds no asker, and can be cleared."""
    with connect(mock) as sock:
        sock.sendall(request_for("tps=10&tokens=100"))
        read_until(sock, b"Hello")
        assert ask_json(mock, "/_mock/connections")["connections"][0]["closed_by"] is None

    seen = ask_json(mock, "/_mock/connections?client_closed=1&wait_s=5")
    cleared = ask_json(mock, "/_mock/connections", "DELETE")

    (connection,) = seen["connections"]
    assert connection["closed_by"] == "client"
    assert connection["opened_at"] <= connection["requests"][0]["received_at"] <= seen["now"]
    assert connection["requests"][0]["tokens_sent"] >= 1
    assert cleared == {"cleared": True}
    assert ask_json(mock, "/_mock/connections")["connections"] == []


def test_a_wait_that_is_over_answers_what_there_is(mock: Mock) -> None:
    """The asker sees from the list that it did not happen."""
    seen = ask_json(mock, "/_mock/connections?client_closed=1&wait_s=0.01")

    assert seen["connections"] == []


@pytest.mark.parametrize(
    ("fault", "outcome"), [("reset_after=2", "reset"), ("cut_after=2", "cut"), ("reset_after=0", "reset")]
)
def test_a_broken_answer_is_the_mocks_own_doing_in_the_log(mock: Mock, fault: str, outcome: str) -> None:
    """The log tells apart who ended the connection."""
    with connect(mock) as sock:
        sock.sendall(request_for(fault))
        try:
            rest = read_until(sock, b"0\r\n\r\n")
        except ConnectionResetError:
            rest = b"RST"
        log = mock.wait(lambda log: all(c.closed_at for c in log) and len(log) == 1)

    (connection,) = log
    assert (connection.closed_by, connection.requests[0].outcome) == ("server", outcome)
    assert (rest == b"RST") == (outcome == "reset")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", b"HTTP/1.1 200 OK"),
        ("error_after=2", b"HTTP/1.1 500 Internal Server Error"),
        ("malformed_after=2", b"HTTP/1.1 200 OK"),
        ("truncate_after=2", b"HTTP/1.1 200 OK"),
        ("cut_after=2", b"HTTP/1.1 200 OK"),
    ],
)
def test_faults_have_their_meaning_without_streaming_too(mock: Mock, fault: str, expected: bytes) -> None:
    """A cut body is shorter than its length says; a malformed one is no JSON."""
    with connect(mock) as sock:
        sock.sendall(request_for(fault, stream=False))
        head = read_until(sock, b"\r\n\r\n")
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length and (piece := sock.recv(65536)):
            body += piece

    assert head.startswith(expected)
    assert (len(body) < length) == (fault == "cut_after=2")
    if fault in ("", "error_after=2"):
        json.loads(body)
    else:
        with pytest.raises(ValueError, match=r"."):
            json.loads(body)


def test_the_head_comes_early_where_asked(mock: Mock) -> None:
    """By default the head waits for the first token, as llama.cpp's does."""
    with connect(mock) as sock:
        sock.sendall(request_for("early_head=1&ttft=60"))

        head = read_until(sock, b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
    assert head.endswith(b"\r\n\r\n")


def test_one_connection_serves_many_requests_also_sent_at_once(mock: Mock) -> None:
    """Keep-alive and pipelining, in order, without recursion."""
    health = b"GET /v1/models HTTP/1.1\r\n\r\n"
    with connect(mock) as sock:
        sock.sendall(health * 2000 + request_for("tokens=1"))
        data = read_until(sock, b"[DONE]")

    assert data.count(b"HTTP/1.1 200 OK") == 2001
    assert data.rindex(b"[DONE]") > data.rindex(b'"object":"list"')


def test_an_old_client_gets_a_body_that_ends_with_the_connection(mock: Mock) -> None:
    """HTTP/1.0 knows no chunks."""
    with connect(mock) as sock:
        sock.sendall(request_for("tokens=2", version="1.0"))
        data = read_until(sock, b"never")

    assert b"connection: close" in data
    assert b"transfer-encoding" not in data
    assert data.endswith(b"data: [DONE]\n\n")


def test_a_client_that_does_not_read_holds_the_answer(mock: Mock) -> None:
    """The mock stops making tokens when the client's buffers are full, and goes on when it reads."""
    with connect(mock) as sock:
        sock.sendall(request_for("tokens=100000"))
        mock.wait(lambda log: bool(log.requests and log.requests[0].tokens_sent))
        (request,) = mock.server.log.requests
        held = 0
        while held != request.tokens_sent:  # until a turn of the loop brings no more
            held = request.tokens_sent
            assert ask_json(mock, "/health") == {"status": "ok"}
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            tail = (tail + sock.recv(1 << 20))[-16:]

    assert held < 100_000
    assert request.tokens_sent == 100_000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /v1/chat/completions HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\n{", b"400"),
        (b"GET /_mock/connections?wait=1 HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /_mock/connections?wait_s=nan HTTP/1.1\r\n\r\n", b"400"),
        (b"rubbish\r\n\r\n", b"400"),
    ],
)
def test_a_wrong_request_gets_an_error_object(mock: Mock, request_bytes: bytes, status: bytes) -> None:
    """The shape is OpenAI's, so clients show the message."""
    with connect(mock) as sock:
        sock.sendall(request_bytes)
        data = read_until(sock, b"}}")

    assert data.startswith(b"HTTP/1.1 " + status)
    assert json.loads(data.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_a_status_that_stands_in_no_registry_is_answered(mock: Mock) -> None:
    """Some APIs say 529 when they are overloaded."""
    with connect(mock) as sock:
        sock.sendall(request_for("status=529"))

        assert read_until(sock, b"}}").startswith(b"HTTP/1.1 529 Unknown\r\n")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ('"model":"mock?ttft=0&tps=0","messages":[{"role":"user","content":"\\ud83d"}]', b"200"),
        ('"model":"\\ud83d?ttft=0&tps=0","messages":[{"role":"user","content":"hi"}]', b"200"),
        ('"messages":[{"role":"user","content":"hi"}],"mock":{"\\ud83d":1}', b"400"),
    ],
)
def test_half_a_character_is_answered(mock: Mock, fields: str, status: bytes) -> None:
    """Clients cut texts within a pair of surrogates."""
    body = f"{{{fields}}}".encode()
    with connect(mock) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)


def test_deep_json_is_refused(mock: Mock) -> None:
    """A body that would exhaust the stack is a bad request, not the end of the mock."""
    body = b"[" * 200_000
    with connect(mock) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        assert read_until(sock, b"}}").startswith(b"HTTP/1.1 400")


def test_a_slow_accept_leaves_the_client_waiting() -> None:
    """Nothing is read from a new connection until the time is over."""
    with running_mock(accept_s=0.1) as mock, connect(mock) as sock:
        sock.sendall(request_for("tokens=1"))
        read_until(sock, b"[DONE]")
        (connection,) = mock.server.log

    assert connection.requests[0].received_at - connection.opened_at > 0.09


def test_closing_the_mock_resets_what_is_open() -> None:
    """No stream outlives the mock, and nothing is left running."""

    async def main() -> ConnectionLog:
        server = await start_mock(behaviour=Behaviour(ttft_s=0, tps=10, tokens=1000))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(request_for())
        await reader.readuntil(b"Hello")

        await server.aclose()

        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        return server.log

    (connection,) = asyncio.run(main())
    assert connection.closed_by == "server"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.com", "::"])  # noqa: S104
def test_only_loopback_is_listened_on(host: str) -> None:
    """A mock that spends nothing is still nobody else's."""
    with pytest.raises(InvalidRequest, match="not loopback"):
        asyncio.run(start_mock(host))


def test_a_taken_port_is_said(mock: Mock) -> None:
    """The owner is named, as everywhere."""
    with pytest.raises(AddressTaken):
        asyncio.run(start_mock(port=mock.port))


@pytest.mark.slow
def test_five_hundred_streams_keep_their_pace(mock: Mock) -> None:
    """500 streams of 10 tokens/s end when they should: no stream waits for another."""

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", mock.port)
        writer.write(request_for("ttft=0.2&tps=10&tokens=11"))
        data = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return data

    async def main() -> list[bytes]:
        async with asyncio.timeout(30):
            return await asyncio.gather(*(one() for _ in range(500)))

    answers = asyncio.run(main())
    log = mock.wait(lambda log: log.client_closed == 500)

    assert all(answer.count(b'"content":') == 12 for answer in answers)  # the opening and 11 tokens
    took_s = [r.last_token_at - r.received_at for r in log.requests if r.last_token_at]
    assert len(took_s) == 500
    assert min(took_s) > 1.19
    assert max(took_s) < 1.7
