"""What the edge promises about one call, with a replica whose bytes are written by hand."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import cast

import pytest

from tailrace.provider.contract import Address
from tailrace.wire.chunked import ChunkedDecoder
from tests.kit.edge import Handle, edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def stream_head(kind: bytes = b"text/event-stream", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (kind, extra)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Answering:
    """A replica that answers every request with the same bytes and keeps what it was asked."""

    def __init__(self, *pieces: bytes, then_close: bool = False) -> None:
        self.pieces = pieces
        self.then_close = then_close
        self.requests: list[tuple[bytes, bytes]] = []
        self.gone = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                self.requests.append(await read_request(reader))
            except (asyncio.IncompleteReadError, ConnectionError):
                self.gone.set()
                return
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
            if self.then_close:
                return


def test_the_function_sees_its_own_path_query_and_the_forwarding_headers() -> None:
    """`/function/fn/a/b?x=1` reaches the function as `/a/b?x=1`, with a call id and who called."""

    async def main() -> None:
        replica = Answering(OK)
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(
                b"POST /function/fn/a/b?x=1 HTTP/1.1\r\nHost: me:1\r\nX-Forwarded-For: 9.9.9.9\r\n"
                b"X_Call_Id: forged\r\nTE: trailers\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\n"
                b"Content-Length: 4\r\n\r\nbody"
            )

        head, body = replica.requests[0]
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "post /a/b?x=1 http/1.1"
        assert body == b"body"
        assert "x-forwarded-for: 9.9.9.9, 127.0.0.1" in lines
        assert "x-forwarded-host: me:1" in lines
        assert not any(line.startswith(("x_call_id", "te:", "x-drop", "connection")) for line in lines)
        call_id = next(line.split(": ")[1] for line in lines if line.startswith("x-call-id"))
        assert len(call_id) == 26
        assert f"x-call-id: {call_id}" in answer.decode().lower()
        assert answer.endswith(b"\r\n\r\nok")

    run(main())


def test_each_chunk_leaves_when_it_exists() -> None:
    """A stream's first event reaches the client while the second does not exist yet."""

    async def main() -> None:
        first_read = asyncio.Event()

        async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(stream_head() + chunk(b"data: 1\n\n"))
            await first_read.wait()
            writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
            await reader.read()

        async with edge_before(replica) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            writer.write(GET)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert await reader.readuntil(b"data: 1\n\n\r\n") == chunk(b"data: 1\n\n")
            first_read.set()
            rest = await reader.read()
            writer.close()

        assert rest == chunk(b"data: 2\n\n") + b"0\r\n\r\n"
        assert "x-accel-buffering: no" in head
        assert "cache-control: no-cache" in head
        assert "content-length" not in head
        assert head.count("\r\ndate: ") == 1

    run(main())


def test_a_call_is_held_until_a_replica_is_ready() -> None:
    """A call that comes before the first replica is answered by it, not refused."""

    async def main() -> None:
        async with edge_before(Answering(OK), is_ready=False) as under_test:
            asking = asyncio.create_task(under_test.ask(GET))
            while not under_test.function.waiting:
                await asyncio.sleep(0)
            replica = under_test.add_replica()
            answer = await asking

        assert answer.endswith(b"ok")
        assert replica.in_flight == 0

    run(main())


def test_the_queue_clock_ends_a_hold_with_503_and_the_last_error() -> None:
    """A call that no replica takes in time learns why."""

    async def main() -> None:
        async with edge_before(Answering(OK), is_ready=False, queue_timeout_s=0.05) as under_test:
            under_test.function.last_error = "ModuleNotFoundError: No module named 'x'"
            answer = await under_test.ask(GET)

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"No module named 'x'" in answer
        assert not under_test.function.waiting

    run(main())


def test_a_caller_that_leaves_the_queue_frees_its_place() -> None:
    """A client that leaves while held is forgotten; the handler never runs."""

    async def main() -> None:
        replica = Answering(OK)
        async with edge_before(replica, is_ready=False) as under_test, asyncio.timeout(5):
            _, writer = await under_test.connect()
            writer.write(GET)
            while not under_test.function.waiting:
                await asyncio.sleep(0)
            writer.close()
            while under_test.function.waiting:
                await asyncio.sleep(0)
            ready = under_test.add_replica()

        assert ready.in_flight == 0
        assert replica.requests == []

    run(main())


@pytest.mark.parametrize("answered", [b"", stream_head(), stream_head() + chunk(b"data: 1\n\n")])
def test_a_client_that_leaves_aborts_the_upstream_request(answered: bytes) -> None:
    """Before the head, after it, mid-stream: the replica's connection closes."""

    async def main() -> None:
        replica = Answering(answered)
        async with edge_before(replica, early_head_s=0) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            writer.write(GET)
            if answered:
                await reader.readuntil(b"\r\n\r\n")
            while not replica.requests:
                await asyncio.sleep(0)
            writer.close()
            await replica.gone.wait()

            assert under_test.function.ready[0].in_flight == 0

    run(main())


def test_an_unknown_function_is_404_with_the_names_that_exist() -> None:
    """A typing error in a name is answered with what could have been meant."""

    async def main() -> None:
        async with edge_before(Answering(OK)) as under_test:
            answer = await under_test.ask(GET.replace(b"/fn", b"/fm"))
            as_json = await under_test.ask(
                GET.replace(b"/fn", b"/fm").replace(b"\r\n\r\n", b"\r\nAccept: application/json\r\n\r\n")
            )

        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"'fm' not found" in answer
        assert b"'fn'" in answer
        assert "'fm'" in json.loads(as_json.partition(b"\r\n\r\n")[2])["error"]["message"]

    run(main())


NATIVE = stream_head(extra=b"X-Tailrace-Dialect: native\r\n")
OPENAI = b'data: {"object":"chat.completion.chunk","choices":[]}\n\n'


@pytest.mark.parametrize(
    ("head", "event", "frame"),
    [
        (NATIVE, b"data: a\n\n", b"event: error\ndata: {"),
        (stream_head(), OPENAI, b'data: {"error":{"message":'),
        (stream_head(extra=b"x-vercel-ai-ui-message-stream: v1\r\n"), b"data: {}\n\n", b'{"type":"error"'),
        (stream_head(b"application/x-ndjson"), b'{"a":1}\n', b'{"error":{"code":"replica_failed"'),
    ],
)
def test_a_broken_stream_ends_with_its_dialects_error_frame(head: bytes, event: bytes, frame: bytes) -> None:
    """The unfinished event is dropped, exactly one error frame follows, and the body is complete."""

    async def main() -> None:
        replica = Answering(head, chunk(event), chunk(b'data: {"half'), then_close=True)
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(GET.replace(b"close", b"keep-alive"))

        assert answer.count(frame) == 1
        assert b"half" not in answer
        assert answer.endswith(b"\r\n0\r\n\r\n")

    run(main())


@pytest.mark.parametrize("kind", [b"text/plain", b"text/event-stream"])
def test_a_broken_stream_of_unknown_make_is_cut(kind: bytes) -> None:
    """Where no error can be told, the last chunk is missing: no client takes it for complete."""

    async def main() -> None:
        replica = Answering(stream_head(kind), chunk(b"data: Some\n\n"), then_close=True)
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(GET)

        assert answer.endswith(chunk(b"data: Some\n\n"))

    run(main())


def test_an_http10_client_is_told_of_a_failure_too() -> None:
    """A stock nginx asks in HTTP/1.0: the error frame needs no chunks, and ends the body."""

    async def main() -> None:
        replica = Answering(NATIVE, chunk(b"data: a\n\n"), chunk(b"data: half"), then_close=True)
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(b"GET /function/fn HTTP/1.0\r\n\r\n")

        body = answer.partition(b"\r\n\r\n")[2]
        assert body.startswith(b"data: a\n\nevent: error\ndata: {")
        assert body.endswith(b"event: end\ndata: {}\n\n")

    run(main())


def test_an_http10_client_gets_an_unframed_body_and_a_reset_when_it_breaks() -> None:
    """Without chunks a FIN would look like a clean end, so a broken body ends in RST."""

    async def main() -> None:
        request = b"GET /function/fn HTTP/1.0\r\n\r\n"
        whole = Answering(stream_head(), chunk(b"data: 1\n\n"), b"0\r\n\r\n")
        async with edge_before(whole) as under_test:
            answer = await under_test.ask(request)
            assert answer.partition(b"\r\n\r\n")[2] == b"data: 1\n\n"
            assert b"chunked" not in answer.lower()

        broken = Answering(stream_head(), chunk(b"data: 1\n\n"), then_close=True)
        async with edge_before(broken) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            writer.write(request)
            with pytest.raises(ConnectionResetError):
                while await reader.read(65536):
                    pass
            writer.close()

    run(main())


def test_a_replica_that_closes_before_its_first_byte_is_502() -> None:
    """The caller gets a real status, and the next call gets the replica's slot."""

    async def main() -> None:
        async with edge_before(Answering(then_close=True)) as under_test:
            answer = await under_test.ask(GET)
            assert under_test.function.ready[0].in_flight == 0

        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"X-OpenFaaS-Internal" in answer

    run(main())


def test_a_replica_that_refuses_connections_did_not_take_the_call() -> None:
    """It is dying: the call is held for the next replica, and only the queue clock ends the hold."""

    async def main() -> None:
        async with edge_before(Answering(OK), queue_timeout_s=0.3) as under_test:
            good = under_test.address
            replica = under_test.function.ready[0]
            assert isinstance(replica.handle, Handle)
            replica.handle.address = Address(path=good.path + ".gone")
            asking = asyncio.create_task(under_test.ask(GET))
            while not under_test.edge.clients:
                await asyncio.sleep(0)
            replica.handle.address = good
            answer = await asking

            replica.handle.address = Address(path=good.path + ".gone")
            refused = await under_test.ask(GET)

            assert replica.in_flight == 0
        assert answer.endswith(b"ok")
        assert refused.startswith(b"HTTP/1.1 503 ")

    run(main())


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    ],
)
def test_answers_without_a_body_end_at_their_head(method: bytes, reply: bytes) -> None:
    """HEAD, 204 and 304 leave the connection usable for the next request."""

    async def main() -> None:
        replica = Answering(reply)
        async with edge_before(replica) as under_test:
            keep = b"%b /function/fn HTTP/1.1\r\nHost: a\r\n\r\n" % method
            answer = await under_test.ask(keep + keep + GET.replace(b"GET", method))

        assert answer.count(b"HTTP/1.1 ") == 3
        assert len(replica.requests) == 3

    run(main())


def test_surplus_bytes_after_an_answer_are_never_forwarded() -> None:
    """A replica that says more than its length loses its connection; the client sees only the answer."""

    async def main() -> None:
        replica = Answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(GET.replace(b"Connection: close", b"X: y") + GET)

        assert answer.endswith(b"\r\n\r\nok"), "one answer, then both connections end"
        assert answer.count(b"HTTP/1.1 200 ") == 1
        assert b"evil" not in answer

    run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    """A hundred requests in one write get a hundred answers, refusals among them."""

    async def main() -> None:
        keep = b"GET /function/%b HTTP/1.1\r\nHost: a\r\n\r\n"
        async with edge_before(Answering(OK)) as under_test:
            answer = await under_test.ask((keep % b"fn" + keep % b"no") * 50 + GET)

        assert answer.count(b"HTTP/1.1 200 ") == 51
        assert answer.count(b"HTTP/1.1 404 ") == 50

    run(main())


def test_a_request_body_is_streamed_with_backpressure() -> None:
    """A replica that does not read stops the client after a bounded number of bytes."""

    async def main() -> None:
        go_on = asyncio.Event()

        async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await go_on.wait()
            seen = 0
            while seen < 32 << 20:
                seen += len(await reader.read(1 << 20))
            writer.write(OK)
            await reader.read()

        async with edge_before(replica) as under_test, asyncio.timeout(20):
            reader, writer = await under_test.connect()
            head = b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (32 << 20)
            writer.write(head + bytes(32 << 20))
            await asyncio.sleep(0.2)
            unsent = writer.transport.get_write_buffer_size()
            go_on.set()
            status = await reader.readline()
            writer.close()

        assert unsent > 16 << 20
        assert status == b"HTTP/1.1 200 OK\r\n"

    run(main())


def test_a_client_that_stops_reading_pauses_the_function() -> None:
    """The replica's writes stall after a bounded number of bytes and go on when the client reads."""

    async def main() -> None:
        sent = 0

        async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await read_request(reader)
            writer.write(stream_head())
            piece = chunk(bytes(65536))
            for _ in range(512):
                writer.write(piece)
                await writer.drain()
                sent += 65536
            writer.write(b"0\r\n\r\n")
            await reader.read()

        async with edge_before(replica) as under_test, asyncio.timeout(20):
            reader, writer = await under_test.connect()
            writer.write(GET)
            await asyncio.sleep(0.3)
            stalled_at = sent
            answer = await reader.read(-1)
            writer.close()

        assert stalled_at < 16 << 20
        assert answer.endswith(b"0\r\n\r\n")

    run(main())


def test_expect_100_continue_is_answered_once_a_replica_takes_the_call() -> None:
    """The client is told to send its body; a missing function is refused before it does."""

    async def main() -> None:
        replica = Answering(OK)
        head = b"POST /function/%b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        async with edge_before(replica) as under_test, asyncio.timeout(5):
            reader, writer = await under_test.connect()
            writer.write(head % b"fn")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 OK")
            writer.close()
            refused = await under_test.ask(head % b"no")

        assert replica.requests[0][1] == b"abc"
        assert refused.startswith(b"HTTP/1.1 404 ")

    run(main())


def test_an_answer_before_the_request_is_complete_still_arrives() -> None:
    """A function may refuse a large upload early: the client reads the refusal, then the end."""

    async def main() -> None:
        async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            await reader.read()

        async with edge_before(replica) as under_test:
            head = b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
            answer = await under_test.ask(head + bytes(1000))

        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"no")

    run(main())


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n800\r\n" + bytes(2048)]
)
def test_a_body_over_the_limit_is_413(framing: bytes) -> None:
    """Sized or chunked, a body over the limit is refused with the limit in the text."""

    async def main() -> None:
        async with edge_before(Answering(OK), body_limit=1024) as under_test:
            answer = await under_test.ask(b"POST /function/fn HTTP/1.1\r\nHost: a\r\n" + framing)

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"1024" in answer

    run(main())


def test_everything_that_is_no_function_goes_to_the_control_plane() -> None:
    """No spelling of a control path passes for a function's path."""

    async def main() -> None:
        replica = Answering(OK)
        async with edge_before(replica) as under_test:
            for path in (b"/", b"/system/functions", b"//function/fn", b"/%66unction/fn", b"/functions"):
                answer = await under_test.ask(
                    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path
                )
                assert answer.endswith(b"control")
            for path in (b"/function/../system/functions", b"/function/%2e%2e/x", b"/function/"):
                answer = await under_test.ask(
                    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path
                )
                assert answer.startswith(b"HTTP/1.1 404 ")

        assert replica.requests == []

    run(main())


def test_an_upgrade_that_is_no_websocket_is_stripped_and_the_body_still_read() -> None:
    """curl --http2 and Java offer h2c with a body; the function gets a plain request."""

    async def main() -> None:
        replica = Answering(OK)
        async with edge_before(replica) as under_test:
            answer = await under_test.ask(
                b"POST /function/fn HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
                b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 4\r\n\r\nbody"
            )

        head, body = replica.requests[0]
        assert answer.endswith(b"ok")
        assert body == b"body"
        assert b"upgrade" not in head.lower()
        assert b"http2-settings" not in head.lower()

    run(main())


def test_a_client_that_reads_nothing_gets_no_second_answer() -> None:
    """Pipelined requests wait until the first answer is read: memory stays bounded."""

    async def main() -> None:
        big = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 << 20) + bytes(8 << 20)
        replica = Answering(big)
        async with edge_before(replica) as under_test, asyncio.timeout(20):
            reader, writer = await under_test.connect()
            keep = GET.replace(b"Connection: close", b"X: y")
            writer.write(keep * 20 + GET)
            await asyncio.sleep(0.3)
            asked = len(replica.requests)
            answer = await reader.read(-1)
            writer.close()

        assert asked <= 2
        assert len(answer) > 21 * (8 << 20)
        assert len(replica.requests) == 21

    run(main())


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\n\r\n"])
@pytest.mark.parametrize("before", [b"", b": OPENROUTER PROCESSING\n\n"])
def test_a_failure_never_lands_inside_an_event(end: bytes, before: bytes) -> None:
    """However the first events are cut, the error frame stands between events or the body is cut."""
    chunk_of = OPENAI[:-2]
    stream = before + chunk_of + end + chunk_of + end

    async def main() -> None:
        for cut in range(1, len(stream)):
            pieces = [chunk(stream[:cut]), chunk(stream[cut:] + b'data: {"half')]
            replica = Answering(stream_head(), *pieces, then_close=True)
            async with edge_before(replica) as under_test:
                answer = await under_test.ask(GET)
            body = _decoded(answer)
            told = body.find(b'data: {"error"')
            assert told > 0, "the dialect was known from the first event on"
            assert body[:told] == stream, cut
            assert body[told:].count(b"data:") == 1

    run(main())


def _decoded(answer: bytes) -> bytes:
    decoder = ChunkedDecoder()
    body = decoder.feed(answer.partition(b"\r\n\r\n")[2])
    assert decoder.is_done
    return body


def test_a_client_that_ends_its_side_and_reads_nothing_is_let_go() -> None:
    """Its answer waits a bounded time, then the connection is cut."""

    async def main() -> None:
        big = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 << 20) + bytes(8 << 20)
        async with edge_before(Answering(big)) as under_test, asyncio.timeout(10):
            _, writer = await under_test.connect()
            writer.write(GET)
            while not under_test.function.ready[0].in_flight:
                await asyncio.sleep(0)
            cast("asyncio.Transport", writer.transport).pause_reading()
            writer.write_eof()
            while under_test.edge.clients:
                await asyncio.sleep(0.01)
            assert under_test.function.ready[0].in_flight == 0
            writer.close()

    run(main())


def test_interim_answers_are_dropped_and_bounded() -> None:
    """A few 1xx are legal; a flood ends the connection with 502, without a fault in the loop."""

    async def main() -> None:
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        async with edge_before(Answering(interim * 3 + OK)) as under_test:
            assert (await under_test.ask(GET)).startswith(b"HTTP/1.1 200 ")
        async with edge_before(Answering(interim * 5000 + OK)) as under_test:
            assert (await under_test.ask(GET)).startswith(b"HTTP/1.1 502 ")

    run(main())


def test_a_client_cannot_speak_for_the_platform() -> None:
    """Its own call id is passed on under another name, checked; every forwarded address survives."""

    async def main() -> None:
        replica = Answering(OK)
        async with edge_before(replica) as under_test:
            await under_test.ask(
                b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Call-Id: mine\r\n"
                b"X-Client-Call-Id: forged\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\r\n"
            )
            refused = await under_test.ask(GET.replace(b"close", b"close\r\nX-Call-Id: no spaces"))

        head = replica.requests[0][0].decode().lower()
        assert "x-client-call-id: mine\r\n" in head
        assert "forged" not in head
        assert "x-call-id: mine" not in head.replace("x-client-call-id", "")
        assert "x-forwarded-for: 1.1.1.1, 2.2.2.2, 127.0.0.1\r\n" in head
        assert refused.startswith(b"HTTP/1.1 400 ")

    run(main())


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_client_that_leaves_while_its_upload_is_held_back_is_seen(is_ready: bool) -> None:
    """Queued, or before a replica that does not read: its place and its slot come back.

    It leaves by RST; a FIN behind bytes that nobody reads does not even reach this machine's socket.
    """

    async def main() -> None:
        async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del writer
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(20)

        async with edge_before(replica, is_ready=is_ready) as under_test:
            _, writer = await under_test.connect()
            writer.write(b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
            writer.write(bytes(8 << 20))
            await asyncio.sleep(0.3)
            assert under_test.edge.clients
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            async with asyncio.timeout(3):
                while under_test.edge.clients:
                    await asyncio.sleep(0.01)

            assert not under_test.function.waiting
            assert all(replica.in_flight == 0 for replica in under_test.function.ready)
            under_test.stop_replicas()

    run(main())


def test_requests_cut_anywhere_are_the_same_requests() -> None:
    """Two pipelined uploads, cut at every byte into two writes: each gets its answer, in order."""

    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                _, body = await read_request(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        sized = b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"
        last = (
            b"POST /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
            b"6\r\nsecond\r\n0\r\n\r\n"
        )
        both = sized + b"\r\n" + last
        async with edge_before(echo) as under_test:
            for cut in range(1, len(both)):
                reader, writer = await under_test.connect()
                writer.write(both[:cut])
                await asyncio.sleep(0.002)
                writer.write(both[cut:])
                answer = await asyncio.wait_for(reader.read(-1), 5)
                writer.close()
                bodies = [part[-6:] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
                assert [b"\nfirst", b"second"] == bodies, cut

    run(main())
