"""What the edge promises about time: the four clocks, held heads, heartbeats."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tailrace.wire.chunked import ChunkedDecoder
from tests.kit.edge import Script, edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
GET_EVENTS = b"GET /function/fn HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
NATIVE = b"X-Tailrace-Dialect: native\r\n"
END = b"event: end\ndata: {}\n\n"


def stream_head(extra: bytes = b"", kind: bytes = b"text/event-stream") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bTransfer-Encoding: chunked\r\n\r\n" % (kind, extra)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def saying(*steps: bytes | float) -> Script:
    """A replica that writes these bytes, with these pauses in seconds; then it waits to be left."""

    async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for step in steps:
                if isinstance(step, bytes):
                    writer.write(step)
                else:
                    await asyncio.sleep(step)

    return replica


def body_of(answer: bytes) -> bytes:
    """The decoded body of a chunked answer; AssertionError when it was cut."""
    decoder = ChunkedDecoder()
    body = decoder.feed(answer.partition(b"\r\n\r\n")[2])
    assert decoder.is_done
    return body


def error_of(frames: bytes) -> dict[str, str]:
    """What the native error frame at the end of a body says."""
    frame = frames[frames.rindex(b"event: error\ndata: ") :]
    found: dict[str, str] = json.loads(frame.split(b"data: ")[1].split(b"\n")[0])
    assert frame.endswith(END)
    return found


@pytest.mark.parametrize(
    ("annotations", "steps", "clock"),
    [
        ({"com.tailrace.timeout.start": "150ms"}, (), "start"),
        ({"com.tailrace.timeout.start": "150ms"}, (stream_head(),), "start"),
        ({"com.tailrace.timeout.total": "150ms"}, (), "total"),
    ],
)
def test_a_clock_before_the_first_byte_is_504_and_names_itself(
    annotations: dict[str, str], steps: tuple[bytes, ...], clock: str
) -> None:
    """With its value and how to change it, also when the head was declared already."""

    async def main() -> None:
        async with edge_before(saying(*steps), annotations=annotations) as under_test:
            answer = await under_test.ask(GET)

            assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
            assert f"{clock}=0.15s".encode() in answer
            assert f"com.tailrace.timeout.{clock}".encode() in answer
            numbers = under_test.edge.numbers.of("fn.openfaas-fn")
            assert {f"timeout_{clock}": 1} == dict(numbers.ends)
            assert under_test.function.ready[0].in_flight == 0

    run(main())


def test_the_idle_clock_ends_a_silent_stream_though_heartbeats_flowed() -> None:
    """Heartbeats are the platform's bytes: they show life to proxies and hide nothing from the clock."""

    async def main() -> None:
        annotations = {"com.tailrace.timeout.idle": "400ms", "com.tailrace.stream.heartbeat": "100ms"}
        script = saying(stream_head(NATIVE) + chunk(b"data: 1\n\n"), 0.2, chunk(b"data: 2\n\n"))
        async with edge_before(script, annotations=annotations) as under_test:
            body = body_of(await under_test.ask(GET))

            assert 3 <= body.count(b": ping\n\n") <= 5
            assert error_of(body)["code"] == "timeout_idle"
            assert "idle=0.4s" in error_of(body)["message"]
            assert body.startswith(b"data: 1\n\n: ping\n\n")

    run(main())


def test_a_stream_that_speaks_lives_on() -> None:
    """Idle measures silence, not length; without a total there is no end."""

    async def main() -> None:
        steps: list[bytes | float] = [stream_head(NATIVE)]
        for number in range(8):
            steps += [0.1, chunk(b"data: %d\n\n" % number)]
        steps.append(chunk(END) + b"0\r\n\r\n")
        annotations = {"com.tailrace.timeout.idle": "350ms", "com.tailrace.timeout.start": "350ms"}
        async with edge_before(saying(*steps), annotations=annotations) as under_test:
            body = body_of(await under_test.ask(GET))

            assert body == b"".join(b"data: %d\n\n" % number for number in range(8)) + END

    run(main())


def test_a_total_ends_a_stream_in_full_flow() -> None:
    """A caller's own, by `X-Timeout`; the frame tells it."""

    async def main() -> None:
        steps: list[bytes | float] = [stream_head(NATIVE)]
        for _ in range(40):
            steps += [chunk(b"data: x\n\n"), 0.05]
        async with edge_before(saying(*steps)) as under_test:
            answer = await under_test.ask(GET.replace(b"\r\n\r\n", b"\r\nX-Timeout: 300ms\r\n\r\n"))

            assert error_of(body_of(answer))["code"] == "timeout_total"
            assert 4 <= answer.count(b"data: x\n\n") <= 8

    run(main())


@pytest.mark.parametrize("value", [b"soon", b"-1s", b"10", b""])
def test_a_timeout_that_is_none_is_refused(value: bytes) -> None:
    """400 and not the default."""

    async def main() -> None:
        async with edge_before(saying()) as under_test:
            answer = await under_test.ask(GET.replace(b"\r\n\r\n", b"\r\nX-Timeout: %b\r\n\r\n" % value))

            assert answer.startswith(b"HTTP/1.1 400 ")

    run(main())


@pytest.mark.parametrize(
    ("head", "ping"),
    [(b"", b": ping\n\n"), (b"id: 7\n", b": ping\n")],
)
def test_a_heartbeat_has_the_form_that_clients_survive(head: bytes, ping: bytes) -> None:
    """After an id no empty line: openai-python would take it for an event."""

    async def main() -> None:
        event = head + b'data: {"object":"chat.completion.chunk"}\n\n'
        script = saying(stream_head() + chunk(event), 0.25, chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        async with edge_before(script, annotations={"com.tailrace.stream.heartbeat": "100ms"}) as under_test:
            body = body_of(await under_test.ask(GET))

            assert body in [event + ping * count + b"data: [DONE]\n\n" for count in (1, 2)]

    run(main())


@pytest.mark.parametrize("event", [b"id: 7\ndata: {}\n\n", b"data: {}\nid: 7\n\n", b"data: {}\rid: 7\n\n"])
def test_an_id_is_seen_wherever_it_stands_in_a_whole_event(event: bytes) -> None:
    """In a stream in full flow, where an event of one line is not looked into."""

    async def main() -> None:
        script = saying(
            stream_head() + chunk(b"data: {}\n\n"),
            0.02,
            chunk(event),
            0.4,
            chunk(b"data: z\n\n") + b"0\r\n\r\n",
        )
        async with edge_before(script, annotations={"com.tailrace.stream.heartbeat": "300ms"}) as under_test:
            body = body_of(await under_test.ask(GET))

            assert body == b"data: {}\n\n" + event + b": ping\ndata: z\n\n"

    run(main())


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_heartbeat_finds_its_place_however_the_stream_was_cut(cut: int) -> None:
    """A function that writes SSE itself may write its lines one by one; its ids are still seen."""

    async def main() -> None:
        event = b"id: 7\ndata: {}\n\n"
        script = saying(
            stream_head() + chunk(b"data: {}\n\n"), 0.02, chunk(event[:cut]), 0.02, chunk(event[cut:]), 0.4,
            chunk(b"data: z\n\n") + b"0\r\n\r\n",
        )  # fmt: skip
        async with edge_before(script, annotations={"com.tailrace.stream.heartbeat": "300ms"}) as under_test:
            body = body_of(await under_test.ask(GET))

            assert body == b"data: {}\n\n" + event + b": ping\ndata: z\n\n"

    run(main())


@pytest.mark.parametrize(
    ("extra", "kind", "first"),
    [
        (b"", b"text/event-stream", b"data: unfini"),
        (b"", b"text/event-stream", b"data: {}\n"),
        (b"", b"application/x-ndjson", b'{"a":1}\n'),
        (b"", b"text/plain", b"a\n\n"),
        (b"Content-Encoding: gzip\r\n", b"text/event-stream", b"\x1f\x8b"),
    ],
)
def test_nothing_of_ours_stands_where_it_would_break_the_body(
    extra: bytes, kind: bytes, first: bytes
) -> None:
    """Inside an event, in a body that is no event stream, between compressed bytes: no heartbeat."""

    async def main() -> None:
        rest = b"shed\n\n"
        script = saying(stream_head(extra, kind) + chunk(first), 0.25, chunk(rest) + b"0\r\n\r\n")
        async with edge_before(script, annotations={"com.tailrace.stream.heartbeat": "100ms"}) as under_test:
            assert body_of(await under_test.ask(GET)) == first + rest

    run(main())


def test_heartbeats_can_be_turned_off() -> None:
    """`com.tailrace.stream.heartbeat: off`."""

    async def main() -> None:
        script = saying(stream_head(NATIVE) + chunk(b"data: 1\n\n"), 0.3, chunk(END) + b"0\r\n\r\n")
        annotations = {"com.tailrace.stream.heartbeat": "off"}
        async with edge_before(script, annotations=annotations, heartbeat_s=0.05) as under_test:
            assert b"ping" not in await under_test.ask(GET)

    run(main())


def test_a_declared_head_is_held_for_a_real_status() -> None:
    """The handler fails before its first byte, after it has declared an event stream: 500, not 200."""

    async def main() -> None:
        async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(stream_head(NATIVE) + b"1;tailrace-fault\r\n")

        async with edge_before(failing) as under_test:
            answer = await under_test.ask(GET)

            assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
            assert b"its logs say why" in answer
            assert {"error_function": 1} == dict(under_test.edge.numbers.of("fn.openfaas-fn").ends)

    run(main())


def test_a_declared_head_is_held_no_longer_than_its_time() -> None:
    """Then the function's own head goes out, heartbeats follow, and a failure is an error frame."""

    async def main() -> None:
        async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(stream_head(NATIVE + b"X-Own: 1\r\n"))
            await asyncio.sleep(0.5)
            writer.write(b"1;tailrace-fault\r\n")

        async with edge_before(failing, early_head_s=0.1, heartbeat_s=0.1) as under_test:
            answer = await under_test.ask(GET)

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"X-Own: 1\r\n" in answer
            assert b": ping\n\n" in answer
            assert error_of(body_of(answer))["code"] == "function_failed"

    run(main())


def test_a_handler_that_fails_and_a_replica_that_dies_are_told_apart() -> None:
    """In the frame's code and in the end reason."""

    async def main() -> None:
        for last, code, reason in (
            (b"1;tailrace-fault\r\n", "function_failed", "error_function"),
            (b"", "replica_failed", "replica_died"),
        ):

            async def breaking(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bytes = last
            ) -> None:
                await read_request(reader)
                writer.write(stream_head(NATIVE) + chunk(b"data: 1\n\n") + last)

            async with edge_before(breaking) as under_test:
                assert error_of(body_of(await under_test.ask(GET)))["code"] == code
                assert {reason: 1} == dict(under_test.edge.numbers.of("fn.openfaas-fn").ends)

    run(main())


def test_a_caller_who_waits_for_events_gets_a_head_while_no_replica_is_ready() -> None:
    """Then heartbeats, then the function's events, as if it had been there."""

    async def main() -> None:
        script = saying(stream_head(NATIVE) + chunk(b"data: 1\n\n" + END) + b"0\r\n\r\n")
        async with edge_before(script, is_ready=False, early_head_s=0.1, heartbeat_s=0.1) as under_test:
            reader, writer = await under_test.connect()
            writer.write(GET_EVENTS)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            await asyncio.wait_for(reader.readuntil(b": ping\n\n"), 5)
            under_test.add_replica()
            rest = await asyncio.wait_for(reader.read(), 5)

            assert b"Content-Type: text/event-stream\r\n" in head
            assert b"X-Call-Id: " in head
            assert b"data: 1\n\n" + END in rest
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "not_a_stream"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "not_a_stream"),
        (stream_head(b"Content-Encoding: gzip\r\n") + chunk(b"\x1f\x8b"), "not_a_stream"),
        (b"HTTP/1.1 500 X\r\nX-Tailrace-Fault: function\r\nContent-Length: 2\r\n\r\nno", "function_failed"),
        (b"", "replica_failed"),
    ],
)
def test_what_fails_after_an_early_head_is_told_as_an_event(reply: bytes, code: str) -> None:
    """An error status, another content type, a fault, a death: a frame, and exactly one."""

    async def main() -> None:
        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            await asyncio.sleep(0.3)
            writer.write(reply)
            if reply:
                await reader.read()

        async with edge_before(late, early_head_s=0.1) as under_test:
            body = body_of(await under_test.ask(GET_EVENTS))

            assert error_of(body)["code"] == code
            assert body.count(b"event: error") == 1

    run(main())


@pytest.mark.parametrize("rest", [b"", b": on", b": one\n\ndata: two\n\n"])
def test_a_sized_event_stream_follows_an_early_head(rest: bytes) -> None:
    """A handler may return all its events as one body; the client was promised no length."""

    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
        events = b"data: 1\n\n" + rest
        for steps in ((head % len(events) + events,), (head % len(events) + b"da", 0.05, events[2:])):
            async with edge_before(saying(0.2, *steps), early_head_s=0.05) as under_test:
                assert body_of(await under_test.ask(GET_EVENTS)) == events
                assert {"done": 1} == dict(under_test.edge.numbers.of("fn.openfaas-fn").ends)

    run(main())


def test_an_early_head_is_only_for_those_who_asked() -> None:
    """Another Accept, one that takes JSON too, or the annotation: the caller waits for the real status."""

    async def main() -> None:
        late = saying(0.3, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
        either = GET_EVENTS.replace(b"Accept: ", b"Accept: application/json, ")
        async with edge_before(late, early_head_s=0.05) as under_test:
            assert (await under_test.ask(GET)).startswith(b"HTTP/1.1 404 ")
            assert (await under_test.ask(either)).startswith(b"HTTP/1.1 404 ")
        off = {"com.tailrace.stream.early-head": "off"}
        async with edge_before(late, early_head_s=0.05, annotations=off) as under_test:
            assert (await under_test.ask(GET_EVENTS)).startswith(b"HTTP/1.1 404 ")

    run(main())


def test_status_events_tell_a_waiting_caller_what_it_waits_for() -> None:
    """`queued` at once, `starting` when a replica has the call."""

    async def main() -> None:
        on = {"com.tailrace.stream.status": "on"}
        script = saying(0.1, stream_head(NATIVE) + chunk(b"data: 1\n\n" + END) + b"0\r\n\r\n")
        async with edge_before(script, is_ready=False, annotations=on) as under_test:
            reader, writer = await under_test.connect()
            writer.write(GET_EVENTS)
            queued = await asyncio.wait_for(reader.readuntil(b"\n\n"), 5)
            under_test.add_replica()
            rest = await asyncio.wait_for(reader.read(), 5)

            assert queued.endswith(b'event: status\ndata: {"state":"queued"}\n\n')
            assert b'event: status\ndata: {"state":"starting"}\n\n' in rest
            assert rest.index(b"starting") < rest.index(b"data: 1")
            writer.close()

    run(main())


@pytest.mark.parametrize("setting", ["stall_timeout_s", "read_timeout_s"])
def test_a_request_that_stops_coming_is_408(setting: str) -> None:
    """By progress always, by `read_timeout` in all; the replica's place is given back."""

    async def main() -> None:
        flags: dict[str, Any] = {setting: 0.2}
        async with edge_before(saying(), **flags) as under_test:
            answer = await under_test.ask(
                b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"
            )

            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert setting.removesuffix("_s").encode() in answer
            assert under_test.function.ready[0].in_flight == 0

    run(main())


def test_the_wait_of_a_slow_upload_is_not_the_functions() -> None:
    """The start clock begins when the function has the whole request."""

    async def main() -> None:
        script = saying(0.1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        async with edge_before(script, start_timeout_s=0.4) as under_test:
            reader, writer = await under_test.connect()
            writer.write(b"POST /function/fn HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
            for _ in range(6):
                await asyncio.sleep(0.15)
                writer.write(b"x")

            assert (await asyncio.wait_for(reader.readline(), 5)) == b"HTTP/1.1 200 OK\r\n"
            writer.close()

    run(main())
