"""What runs decide without doing anything."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import InvalidRequest
from tailrace.runs.claims import Claim, claim_name, decode_claim, encode_claim, is_key, judge
from tailrace.runs.ids import EventId, is_run_id, parse_event_id, parse_seq
from tailrace.runs.marks import End, Head, pack_end, pack_head
from tailrace.runs.peers import LEASE_S, Peers
from tailrace.runs.pieces import MESSAGE_LIMIT, Splitter, Unpacker, pack_pieces
from tailrace.runs.policy import Attendance, Policy, chosen_policy
from tailrace.runs.record import STATES, IllegalState, Record, Usage, decode_record, encode_record
from tailrace.runs.usage import find_usage
from tailrace.runs.view import Writer, is_drained, parse_format

RUN = "abcdefghijklmnopqrstuvwx23"
NATIVE = Head(200, [("Content-Type", "text/event-stream")], "native")


# Ids.


def test_an_event_id_is_read_as_it_is_written() -> None:
    """``<run>-<seq>``, both ways."""
    assert EventId(RUN, 17) == parse_event_id(str(EventId(RUN, 17)))


@pytest.mark.parametrize(
    "text",
    ["", RUN, f"{RUN}-", f"{RUN}-01", f"{RUN}--1", f"{RUN}-+1", f"{RUN}- 1", f"{RUN}-1 ", f"{RUN}-1-2",
     f"{RUN.upper()}-1", f"{RUN[:-1]}-1", f"{RUN}a-1", f"{RUN}-1234567890", f"{RUN}-\u0661", "1", "x-1"],
)  # fmt: skip
def test_what_is_no_event_id_of_ours_is_none(text: str) -> None:
    """A near miss is somebody else's id, which passes untouched."""
    assert None is parse_event_id(text)


def test_run_ids_fit_a_subject() -> None:
    """Nothing with a dot, a star or a blank in it names a run."""
    assert [True, False, False, False, False] == [
        is_run_id(text) for text in (RUN, RUN[:-1] + ".", RUN[:-1] + "*", RUN + "\n", "")
    ]
    assert [0, 5, None, None] == [parse_seq(text) for text in ("0", "5", "05", "")]


# Records.


def test_states_follow_only_as_they_can() -> None:
    """All legal changes, and no others."""
    record = Record(RUN, "fn.openfaas-fn", "queued", 1.0)
    legal = set()
    for before, after in itertools.permutations(STATES, 2):
        placed = Record(RUN, record.function, before, 1.0)
        try:
            legal.add((before, placed.moved(after).state))
        except IllegalState:
            continue

    assert {
        ("queued", "starting"), ("queued", "failed"), ("queued", "cancelled"),
        ("starting", "streaming"), ("starting", "done"), ("starting", "failed"), ("starting", "cancelled"),
        ("starting", "queued"), ("streaming", "done"), ("streaming", "failed"), ("streaming", "cancelled"),
        ("streaming", "queued"),
    } == legal  # fmt: skip


def test_a_record_is_stored_whole() -> None:
    """What comes back is the same, and garbage is none."""
    record = Record(RUN, "fn.openfaas-fn", "failed", 1.5, ended_at=2.0, usage=Usage(3, 4), error="é")

    assert record == decode_record(encode_record(record))
    assert None is decode_record(b"{}")


def test_events_expire_after_the_end_by_kind() -> None:
    """Nothing that runs expires, and nothing twice."""
    running = Record(RUN, "f", "streaming", 1.0)
    waited, queued = (Record(RUN, "f", "done", 1.0, ended_at=100.0, is_async=kind) for kind in (False, True))

    assert [None, 110.0, 120.0] == [record.expires_at(10, 20) for record in (running, waited, queued)]
    assert None is Record(RUN, "f", "done", 1.0, ended_at=1.0, expired_at=2.0).expires_at(10, 20)


# Policies.


@pytest.mark.parametrize(
    ("annotated_s", "asked", "is_async", "expected"),
    [
        (None, "", False, "grace:10s"), (None, "", True, "continue"), (0.0, "", False, "cancel"),
        (math.inf, "", False, "continue"), (math.inf, "grace:1m", False, "grace:60s"),
        (30.0, "cancel", False, "cancel"), (None, "grace:10s", False, "grace:10s"),
    ],
)  # fmt: skip
def test_a_caller_chooses_within_what_the_function_allows(
    annotated_s: float | None, asked: str, is_async: bool, expected: str
) -> None:
    """The annotation, else what calls of this kind have, is the most."""
    assert expected == str(chosen_policy(annotated_s, asked, is_async=is_async))


@pytest.mark.parametrize(
    ("annotated_s", "asked"),
    [(None, "continue"), (None, "grace:11s"), (0.0, "grace:1s"), (None, "grace:0s"), (None, "always"),
     (math.inf, "grace:25h")],
)  # fmt: skip
def test_more_than_that_is_refused(annotated_s: float | None, asked: str) -> None:
    """And so is what is no policy."""
    with pytest.raises(InvalidRequest):
        chosen_policy(annotated_s, asked, is_async=False)


def test_the_last_viewer_leaves_once() -> None:
    """Whoever leaves before it changes nothing; gateways that fall silent count as having left."""
    attendance = Attendance(Policy(5.0))
    attendance.join()
    attendance.join()

    assert [False, True] == [attendance.leave(), attendance.leave()]
    attendance.join()
    assert not attendance.heard("b", viewers=2, until=10.0)
    assert not attendance.leave()
    assert [False, True, False] == [attendance.forget_silent(now) for now in (9.0, 10.0, 11.0)]
    assert [False, True, False] == [attendance.heard("b", viewers=v, until=20.0) for v in (1, 0, 0)]


# Claims.


def test_a_key_belongs_to_one_caller_of_one_function() -> None:
    """Neither another function nor another credential finds it."""
    names = {claim_name(fn, auth, key) for fn in "ab" for auth in (b"", b"x") for key in (b"1", b"2")}

    assert 8 == len(names)
    assert ["join", "refuse"] == [judge(Claim(RUN, "a"), digest) for digest in ("a", "b")]
    assert Claim(RUN, "a", 1.0) == decode_claim(encode_claim(Claim(RUN, "a", 1.0)))
    assert [True, False, False, False] == [is_key(key) for key in (b"k" * 256, b"k" * 257, b"", b"a b")]


# Pieces.

_BODIES = st.lists(
    st.sampled_from([b"data: a\n\n", b"data: a\r\n\r\n", b"x\n\r\n", b": c\r\r", b"data", b"\n", b"\r", b""]),
    max_size=20,
)


@given(bodies=_BODIES, cut=st.integers(1, 5), kind=st.sampled_from(["events", "lines", "bytes"]))
def test_pieces_together_are_the_body(bodies: list[bytes], cut: int, kind: str) -> None:
    """However it comes, nothing is lost, added or moved."""
    body = b"".join(bodies)
    splitter = Splitter(kind)
    pieces = [p for at in range(0, len(body), cut) for p in splitter.feed(body[at : at + cut])]

    assert body == b"".join(pieces) + splitter.rest()


@given(bodies=st.lists(st.sampled_from([b"data: a\n\n", b"data: b\ndata: c\n\n", b": x\n\n"]), max_size=9),
       cut=st.integers(1, 40))  # fmt: skip
def test_each_event_is_a_piece(bodies: list[bytes], cut: int) -> None:
    """Wherever the bytes are cut on their way."""
    body = b"".join(bodies)
    splitter = Splitter("events")

    assert bodies == [p for at in range(0, len(body), cut) for p in splitter.feed(body[at : at + cut])]


def test_an_event_without_an_end_is_given_up() -> None:
    """Over 1 MiB it is passed on as it comes, and nothing after it counts as an event."""
    splitter = Splitter("events")
    pieces = [p for _ in range(20) for p in splitter.feed(b"x" * 100_000)]

    assert 2_000_000 == sum(map(len, pieces))
    assert not splitter.is_intact


@given(
    sizes=st.lists(
        st.sampled_from([0, 1, 10, MESSAGE_LIMIT, MESSAGE_LIMIT + 1, 3 * MESSAGE_LIMIT]), max_size=5
    ),
    twice=st.booleans(),
)
def test_messages_bring_every_piece_once(sizes: list[int], twice: bool) -> None:
    """Also when all of them come again, as after a batch that was not acknowledged."""
    pieces = [bytes([at]) * size for at, size in enumerate(sizes)]
    messages = list(pack_pieces(1, pieces))
    unpacker, found = Unpacker(), list[bytes]()
    for message in messages * (2 if twice else 1):
        told = unpacker.feed(message)
        assert isinstance(told, list)
        found += told

    assert pieces == found
    assert all(len(message) <= MESSAGE_LIMIT + 32 for message in messages)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_tiny_pieces_make_no_message_that_nats_refuses(size: int) -> None:
    """What frames a piece of a byte or two is longer than the piece."""
    messages = list(pack_pieces(1, [b"x" * size] * (2 * MESSAGE_LIMIT // size)))

    assert max(map(len, messages)) <= MESSAGE_LIMIT + 16


def test_a_part_that_comes_again_in_the_middle_changes_nothing() -> None:
    """A long piece whose first part is sent twice is put together once."""
    piece = bytes(range(256)) * 8192
    first, *rest = pack_pieces(1, [piece])
    unpacker = Unpacker()
    found = [told for message in [first, first, *rest] for told in (unpacker.feed(message) or [])]  # type: ignore[union-attr]

    assert [piece] == found


def test_a_missing_message_is_seen() -> None:
    """What is after it is not given out."""
    messages = [message for seq in (1, 2, 3) for message in pack_pieces(seq, [b"%d" % seq])]
    unpacker = Unpacker()

    assert [[b"1"], None, [b"2"], [b"3"]] == [unpacker.feed(messages[at]) for at in (0, 2, 1, 2)]


@pytest.mark.parametrize("message", [b"", b"X", b"D", b"D\0\0\0\1\0\0\0\5ab", b"H{}", b"E[]", b"P\0"])
def test_garbage_is_no_message(message: bytes) -> None:
    """It raises what the reader expects, and nothing else."""
    with pytest.raises(ValueError, match="not a message"):
        Unpacker().feed(message)


def test_head_and_end_are_told_as_they_are() -> None:
    """Both pass through a message whole."""
    end = End(3, "replica_failed", "it died", is_partial=True)

    assert [NATIVE, end] == [Unpacker().feed(message) for message in (pack_head(NATIVE), pack_end(end))]


# What viewers get.


def test_a_native_run_is_written_as_its_first_client_had_it() -> None:
    """Numbers before the events, the failure as the event after the last one."""
    writer = Writer(RUN, NATIVE, "same")
    failed = writer.end(End(1, "cancelled", "it was stopped"))

    assert b"id: %b-1\ndata: a\n\n" % RUN.encode() == writer.piece(1, b"data: a\n\n")
    assert failed is not None
    assert failed.startswith(b"id: %b-2\nevent: error\n" % RUN.encode())
    assert b"" == writer.end(End(1))


def test_other_dialects_get_no_numbers_unless_asked_for() -> None:
    """The OpenAI SDK fails on an id before a heartbeat."""
    openai = Head(200, [("content-type", "text/event-stream")], "openai")

    assert b"data: {}\n\n" == Writer(RUN, openai, "same").piece(1, b"data: {}\n\n")
    assert b"id: %b-1\ndata: {}\n\n" % RUN.encode() == Writer(RUN, openai, "sse").piece(1, b"data: {}\n\n")


def test_a_plain_body_can_be_read_as_events_and_lines() -> None:
    """Text as text, other bytes as base64."""
    plain = Head(200, [("content-type", "text/plain")], "plain")

    assert b"id: %b-1\ndata: a\ndata: b\n\n" % RUN.encode() == Writer(RUN, plain, "sse").piece(1, b"a\nb")
    assert b'{"id":"%b-1","base64":"/w=="}\n' % RUN.encode() == Writer(RUN, plain, "ndjson").piece(1, b"\xff")
    assert None is Writer(RUN, plain, "same").end(End(1, "replica_failed", "it died"))


def test_who_has_seen_the_end_is_sent_nothing() -> None:
    """After a failure the end is an event of its own, where events are numbered."""
    done, failed = End(3), End(3, "cancelled", "x")

    assert [False, True] == [is_drained(after, done, True) for after in (2, 3)]
    assert [False, True] == [is_drained(after, failed, True) for after in (3, 4)]
    assert [True, False, False] == [
        is_drained(3, failed, False), is_drained(None, done, True), is_drained(3, None, True)
    ]  # fmt: skip


def test_an_end_of_the_reading_alone_has_no_number() -> None:
    """It is the number of an event that is still to be told, so who comes back is not to have seen it."""
    broke = End(3, "runs_unavailable", "JetStream does not answer", is_partial=True, is_passing=True)
    told = Writer(RUN, NATIVE, "same").end(broke)

    assert told is not None
    assert told.startswith(b"event: error\n")
    assert [False] * 3 == [is_drained(after, broke, True) for after in (3, 4, 5)]


def test_who_has_seen_more_than_can_be_read_is_told_so() -> None:
    """Events are gone for who reads from the start; for who is past them there may be more."""
    gap = End(3, "run_incomplete", "events are gone", is_partial=True)

    assert [False, True, False] == [is_drained(after, gap, True) for after in (3, 4, 5)]


def test_an_unknown_form_is_refused() -> None:
    """With those that exist."""
    with pytest.raises(InvalidRequest, match="sse, ndjson, raw"):
        parse_format("xml")


# Usage.


def test_usage_is_what_the_provider_says() -> None:
    """Its last events tell it."""
    pieces = [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'] * 3
    told = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"details":{"x":1}}}\n\n'

    assert Usage(3, 7) == find_usage([*pieces, told, b"data: [DONE]\n\n"], 4)


def test_usage_is_estimated_when_nobody_said_it() -> None:
    """One event with content, one token; nothing without content."""
    assert Usage(2, None, is_estimated=True) == find_usage([b"data: a\n\n", b": x\n\n"], 2)
    assert None is find_usage([b": x\n\n"], 0)


# Other gateways.


def test_a_gateway_is_dead_when_it_was_not_heard() -> None:
    """An earlier start of the same node at once; an unknown one after we have listened for long enough."""
    peers = Peers("aa-2", 100.0)
    peers.hear("bb-1", 101.0)

    assert peers.is_alive("aa-2", 200.0)
    assert not peers.is_alive("aa-1", 100.0)
    assert [True, False] == [peers.is_alive("bb-1", 101.0 + after) for after in (LEASE_S - 0.1, LEASE_S)]
    assert [True, False] == [peers.is_alive("cc-1", 100.0 + after) for after in (0.0, LEASE_S)]
    assert [True, False] == [peers.fell_silent(101.0 + LEASE_S), peers.fell_silent(102.0 + LEASE_S)]
    peers.hear("bb-1", 110.0)
    peers.hear_leaving("bb-1")
    assert not peers.is_alive("bb-1", 110.1)


def test_a_gateway_notices_that_it_was_taken_for_dead() -> None:
    """By its own words, which come back to it late; those of others tell nothing of it."""
    peers = Peers("aa-2", 100.0)

    assert [False, False, True, False] == [
        peers.hear(name, at)
        for name, at in (
            ("aa-2", 101.0),
            ("bb-1", 110.0),
            ("aa-2", 101.0 + LEASE_S),
            ("aa-2", 102.0 + LEASE_S),
        )
    ]
