"""The line per call: one line, the same fields in the same order, whatever a client sends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.edge.calllog import BUFFER_BYTES, FLUSH_BYTES, FLUSH_S, CallLog
from tailrace.edge.numbers import Numbers
from tailrace.settings import LogFormat
from tests.kit.loops import run

NOON = 1_795_348_800.25  # 2026-11-22T12:00:00.25Z


class Call(TypedDict):
    call_id: bytes
    function: bytes
    method: bytes
    status: int
    end_reason: str
    bytes_out: int
    first_byte_s: float | None
    total_s: float
    client: bytes
    client_call_id: bytes


CALL: Call = {
    "call_id": b"abcdefghijklmnopqrstuvwxyz",
    "function": b"hello.openfaas-fn",
    "method": b"POST",
    "status": 200,
    "end_reason": "done",
    "bytes_out": 1234,
    "first_byte_s": 0.01234,
    "total_s": 1.5,
    "client": b"127.0.0.1",
    "client_call_id": b"",
}


def lines_of(form: LogFormat, *calls: Call) -> list[bytes]:
    """What the log hands over for these calls."""
    taken: list[bytes] = []

    def sink(data: bytes) -> bool:
        taken.append(data)
        return True

    async def main() -> None:
        log = CallLog(form, sink, Numbers(), asyncio.get_running_loop(), clock=lambda: NOON)
        for call in calls:
            log.write(**call)
        log.close()

    run(main())
    return b"".join(taken).splitlines(keepends=True)


def test_a_line_of_text() -> None:
    """The whole line, as docs/reference/logs.md has it."""
    expected = (
        b"2026-11-22T12:00:00.250Z call_id=abcdefghijklmnopqrstuvwxyz function=hello.openfaas-fn method=POST"
        b" status=200 end_reason=done bytes=1234 first_byte_s=0.0123 total_s=1.5000 client=127.0.0.1\n"
    )

    assert [expected] == lines_of("text", CALL)


def test_a_line_of_json() -> None:
    """The same fields, numbers as numbers."""
    (line,) = lines_of("json", CALL)

    assert {
        "time": "2026-11-22T12:00:00.250Z",
        "call_id": "abcdefghijklmnopqrstuvwxyz",
        "function": "hello.openfaas-fn",
        "method": "POST",
        "status": 200,
        "end_reason": "done",
        "bytes": 1234,
        "first_byte_s": 0.0123,
        "total_s": 1.5,
        "client": "127.0.0.1",
    } == json.loads(line)


def test_what_there_is_only_sometimes() -> None:
    """A call without an answer has no first byte; a caller's own id stands at the end."""
    call: Call = {**CALL, "first_byte_s": None, "client_call_id": b"order-17"}

    (text,), (as_json,) = lines_of("text", call), lines_of("json", call)

    assert b" first_byte_s=- total_s=1.5000 client=127.0.0.1 client_call_id=order-17\n" in text
    assert (None, "order-17") == tuple(json.loads(as_json)[key] for key in ("first_byte_s", "client_call_id"))


def test_off_writes_nothing() -> None:
    """`--log-format off`."""
    assert [] == lines_of("off", CALL)


_values = st.one_of(st.binary(max_size=400), st.text(max_size=80).map(lambda text: text.encode()))


@given(_values, _values, _values, _values)
def test_hostile_values_stay_in_their_place(
    function: bytes, method: bytes, client: bytes, client_call_id: bytes
) -> None:
    """One line of printable ASCII with the fields in order; JSON is valid and tells the same value."""
    hostile: Call = {
        **CALL,
        "function": function,
        "method": method,
        "client": client,
        "client_call_id": client_call_id,
    }

    (text,), (as_json,) = lines_of("text", hostile), lines_of("json", hostile)

    assert re.fullmatch(rb"[\x20-\x7e]+\n", text)
    assert re.fullmatch(rb"[\x20-\x7e]+\n", as_json)
    value = rb'(?:"(?:[^"\\]|\\.)*"|[^\s"=]+)'
    form = rb"\S+ call_id=%b function=%b method=%b status=200 end_reason=done bytes=1234 \S+ \S+ client=%b"
    form += rb"(?: client_call_id=%b)?\n" % value
    assert re.fullmatch(form % ((value,) * 4), text)
    assert function[:256].decode("utf-8", "replace") == json.loads(as_json)["function"]
    assert client_call_id[:256].decode("utf-8", "replace") == json.loads(as_json).get("client_call_id", "")


def in_loop(scenario: Callable[[CallLog, list[bytes], Numbers, list[bool]], None]) -> None:
    """Runs a scenario with a log whose sink has room while the last of the list says so."""
    taken: list[bytes] = []
    has_room = [True]
    numbers = Numbers()

    def sink(data: bytes) -> bool:
        if has_room[-1]:
            taken.append(data)
        return has_room[-1]

    async def main() -> None:
        log = CallLog("text", sink, numbers, asyncio.get_running_loop())
        scenario(log, taken, numbers, has_room)
        log.close()

    run(main())


def test_lines_leave_together_after_a_moment() -> None:
    """Ten lines are one piece for the sink, at most 0.1 s later."""
    taken: list[bytes] = []
    arrived = asyncio.Event()

    def sink(data: bytes) -> bool:
        taken.append(data)
        arrived.set()
        return True

    async def main() -> float:
        loop = asyncio.get_running_loop()
        log = CallLog("text", sink, Numbers(), loop)
        began = loop.time()
        for _ in range(10):
            log.write(**CALL)
        await arrived.wait()
        took_s = loop.time() - began
        log.close()
        return took_s

    took_s = run(main())

    assert [10] == [piece.count(b"\n") for piece in taken]
    assert FLUSH_S * 0.5 < took_s < FLUSH_S * 3


def test_many_lines_leave_at_once() -> None:
    """64 KiB do not wait for the timer."""

    def scenario(log: CallLog, taken: list[bytes], numbers: Numbers, has_room: list[bool]) -> None:
        while not taken:
            log.write(**CALL)

    in_loop(scenario)


def test_a_sink_without_room_loses_the_newest_lines() -> None:
    """1 MiB is kept and handed over later; what is beyond it is dropped and counted."""

    def scenario(log: CallLog, taken: list[bytes], numbers: Numbers, has_room: list[bool]) -> None:
        has_room.append(False)
        written = 0
        while numbers.log_lines_dropped < 5:
            log.write(**CALL)
            written += 1
        has_room.append(True)
        log.flush()

        assert BUFFER_BYTES - 1000 < sum(map(len, taken)) <= BUFFER_BYTES
        assert written - 5 == sum(piece.count(b"\n") for piece in taken)

    in_loop(scenario)


def test_what_cannot_be_handed_over_at_the_end_is_counted() -> None:
    """Nothing is lost unseen."""
    numbers = Numbers()

    async def main() -> None:
        log = CallLog("text", lambda _: False, numbers, asyncio.get_running_loop())
        log.write(**CALL)
        log.write(**CALL)
        log.close()

    run(main())

    assert 2 == numbers.log_lines_dropped


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_form_can_change_while_it_runs(form: LogFormat) -> None:
    """After a reload the next line has the new form; what was remembered of the old one is gone."""
    taken: list[bytes] = []

    def sink(data: bytes) -> bool:
        taken.append(data)
        return True

    async def main() -> None:
        log = CallLog("text" if form == "json" else "json", sink, Numbers(), asyncio.get_running_loop())
        log.write(**CALL)
        log.set_form(form)
        log.write(**CALL)
        log.close()

    run(main())

    lines = b"".join(taken).splitlines()
    assert [form == "text", form == "json"] == [line.startswith(b"{") for line in lines]


def test_a_piece_is_never_larger_than_the_buffer() -> None:
    """FLUSH_BYTES is below BUFFER_BYTES, or nothing would leave early."""
    assert FLUSH_BYTES < BUFFER_BYTES
