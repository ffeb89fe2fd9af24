"""The chunk decoder against the field's parser, at every cut, and what it refuses."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.wire.chunked import ChunkedDecoder, CodingViolated


def decode(pieces: list[bytes]) -> tuple[bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder()
    return b"".join(decoder.feed(piece) for piece in pieces), decoder


def encode(chunks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_any_body_cut_anywhere_decodes_to_itself(chunks: list[bytes], cuts: list[int]) -> None:
    """Where the reads end makes no difference, and the bytes after the end are handed back."""
    coded = encode(chunks) + b"SURPLUS"
    marks = sorted({0, len(coded), *(cut % len(coded) for cut in cuts)})
    pieces = [coded[a:b] for a, b in itertools.pairwise(marks)]

    decoder = ChunkedDecoder()
    body, surplus = b"", b""
    for piece in pieces:
        if decoder.is_done:
            surplus += piece
        else:
            body += decoder.feed(piece)
            surplus += decoder.surplus

    assert body == b"".join(chunks)
    assert decoder.is_done
    assert surplus == b"SURPLUS"


@pytest.mark.parametrize("form", [b"%x", b"%X", b"0%x"])
def test_one_whole_chunk_of_any_size_may_be_forwarded_as_it_stands(form: bytes) -> None:
    """However its size is written; one byte less or more is not whole."""
    for size in range(1, 4200):
        coded = form % size + b"\r\n" + b"a" * size + b"\r\n"
        decoder = ChunkedDecoder()

        assert (b"a" * size, True) == (decoder.feed(coded), decoder.is_whole)
        assert not decode([coded[:-1]])[1].is_whole
        assert not decode([coded + b"1"])[1].is_whole


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), st.data())
def test_a_buffer_is_whole_exactly_when_it_may_be_forwarded_as_it_stands(
    chunks: list[bytes], data: st.DataObject
) -> None:
    """What `is_whole` lets through decodes to the same body by itself."""
    coded = encode(chunks)[: -len(b"0\r\n\r\n")]
    cut = data.draw(st.integers(1, len(coded)))

    decoder = ChunkedDecoder()
    body = decoder.feed(coded[:cut])

    if decoder.is_whole:
        alone, after = decode([coded[:cut] + b"0\r\n\r\n"])
        assert after.is_done
        assert alone == body


@pytest.mark.parametrize(
    "coded",
    [
        b"g\r\n", b"-1\r\n", b"+1\r\na\r\n", b" 1\r\na\r\n", b"0x1\r\na\r\n", b"1_0\r\n", b"\r\n", b"1\na\n",
        b"1\r\nab\r\n", b"1\r\na\n0\r\n\r\n", b"10000000000000000\r\n", b"1\rX\na\r\n", b"1;\x00\r\na\r\n",
        b"0\r\nbad trailer\r\n\r\n", b"0\r\n: x\r\n\r\n", b"0\r\nA: b\nC: d\r\n\r\n", b"1" * 300,
        b"0\r\n" + b"A: " + b"b" * 300, b"0\r\n" + b"A: bbbbbbbbbbbbbbbbbbbb\r\n" * 500,
    ],
)  # fmt: skip
def test_what_is_not_the_coding_is_refused(coded: bytes) -> None:
    """Whole or byte by byte, no spelling gets through."""
    for pieces in ([coded], [coded[i : i + 1] for i in range(len(coded))]):
        with pytest.raises(CodingViolated):
            decode(pieces)


@given(st.binary(max_size=60))
def test_nothing_is_accepted_that_h11_refuses(tail: bytes) -> None:
    """h11 is the oracle: what we decode to an end, it decodes to the same end."""
    coded = b"5\r\nhello\r\n" + tail + b"\r\n0\r\n\r\n"
    try:
        body, decoder = decode([coded])
    except CodingViolated:
        return
    if not decoder.is_done:
        return
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded)
    seen = b""
    while not isinstance(event := oracle.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            seen += event.data
        assert event is not h11.NEED_DATA

    assert seen == body


def test_extensions_and_trailers_are_read_and_dropped() -> None:
    """They are legal, nobody needs them, and they never travel on."""
    body, decoder = decode([b'1;a=b;c="d"\r\nx\r\n0\r\nExpires: never\r\n\r\n'])

    assert body == b"x"
    assert decoder.is_done
    assert not decoder.is_whole
