"""A worker's own request: what the edge may send is read to its end, and nothing short of it is an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tailrace.queue import private

HEAD = b"HTTP/1.1 200 OK\r\nX-A: b\r\n"


@contextlib.asynccontextmanager
async def scripted(path: Path, *pieces: bytes) -> AsyncIterator[list[bytes]]:
    """A server that reads one request, sends these pieces and closes; what it was sent."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        came.append(head + await reader.readexactly(length))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield came


async def asked(folder: Path, *pieces: bytes) -> tuple[int, bytes]:
    """Status and body of what is answered."""
    path = folder / "s"
    async with (
        scripted(path, *pieces),
        private.post(str(path), b"/x?y", [(b"Host", b"h")], b"body") as answer,
    ):
        return answer.head.status, b"".join([data async for data in answer.body])


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((HEAD + b"Content-Length: 5\r\n\r\nhello",), (200, b"hello")),
        ((HEAD + b"Content-Length: 5\r\n\r\n", b"he", b"llo"), (200, b"hello")),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhel", b"lo\r\n0\r\n\r\n"), (200, b"hello")),
        ((HEAD + b"\r\nto the end", b" of it"), (200, b"to the end of it")),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), (204, b"")),
        ((b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD, b"Content-Length: 2\r\n\r\nok"), (200, b"ok")),
        ((b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",), (503, b"")),
    ],
)
def test_an_answer_is_read_to_its_end(
    tmp_path: Path, pieces: tuple[bytes, ...], expected: tuple[int, bytes]
) -> None:
    assert expected == asyncio.run(asked(tmp_path, *pieces))


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200",),
        (b"SSH-2.0-OpenSSH\r\n\r\n",),
        (HEAD + b"Content-Length: 5\r\n\r\nhel",),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",),
    ],
)
def test_what_is_not_whole_is_no_answer(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(private.CallBroke):
        asyncio.run(asked(tmp_path, *pieces))


def test_the_request_is_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def ask() -> list[bytes]:
        headers = [(b"Host", b"h"), (b"X-Odd", "ä".encode("latin-1"))]
        async with (
            scripted(path, HEAD + b"Content-Length: 0\r\n\r\n") as came,
            private.post(str(path), b"/a%2Fb?c=d", headers, b"body") as answer,
        ):
            assert [] == [data async for data in answer.body]
        return came

    expected = (
        b"POST /a%2Fb?c=d HTTP/1.1\r\nHost: h\r\nX-Odd: \xe4\r\n"
        b"Content-Length: 4\r\nConnection: close\r\n\r\nbody"
    )
    assert [expected] == asyncio.run(ask())


@pytest.mark.parametrize("bad", [b"a\r\nX-Call-Id: other", b"a\nb"])
def test_a_line_end_in_what_was_kept_adds_no_line(tmp_path: Path, bad: bytes) -> None:
    async def ask() -> None:
        async with private.post(str(tmp_path / "none"), b"/", [(b"X-A", bad)], b""):
            raise AssertionError("it was sent")

    with pytest.raises(private.CallBroke, match="line end"):
        asyncio.run(ask())


def test_a_gateway_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def ask() -> None:
        async with private.post(str(tmp_path / "none"), b"/", [], b""):
            raise AssertionError("it was sent")

    with pytest.raises(private.CallBroke):
        asyncio.run(ask())
