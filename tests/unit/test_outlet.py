"""Whoever reads our output may be slow or gone; the loop never waits for it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from tailrace.cli.outlet import CLOSE_S, LIMIT_BYTES, open_outlet
from tests.kit.loops import run


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:  # closed by the test
            continue


def read_all(reader: int) -> bytes:
    """Everything until the writers are gone."""
    data = b""
    while piece := os.read(reader, 65536):
        data += piece
    return data


def test_text_and_bytes_arrive_in_order(pipe: tuple[int, int]) -> None:
    """Leaving the context writes what is left."""

    async def main() -> None:
        async with open_outlet(pipe[1]) as out:
            for n in range(100):
                out.write(f"text {n}\n")
                out.flush()
                out.offer(b"bytes %d\n" % n)

    run(main())
    os.close(pipe[1])

    expected = "".join(f"text {n}\nbytes {n}\n" for n in range(100))
    assert expected == read_all(pipe[0]).decode()


def test_a_reader_that_does_not_read_holds_nobody_up(pipe: tuple[int, int]) -> None:
    """Beyond 1 MiB nothing is taken; what was taken comes once it reads."""
    line = b"x" * 1023 + b"\n"

    async def main() -> int:
        taken = 0
        async with open_outlet(pipe[1]) as out:
            began = time.perf_counter()
            while out.offer(line):
                taken += 1
            assert time.perf_counter() - began < 1
            read = asyncio.create_task(asyncio.to_thread(os.read, pipe[0], LIMIT_BYTES // 8))
            waits = asyncio.create_task(out.wait_room())
            await asyncio.sleep(0)
            assert not waits.done()
            left = len(line) * taken - len(await read)
            while left:
                left -= len(await asyncio.to_thread(os.read, pipe[0], left))
            await waits
            assert out.offer(line)
        return taken

    assert LIMIT_BYTES // len(line) == run(main())


@pytest.mark.slow
def test_the_end_does_not_wait_for_a_reader(pipe: tuple[int, int]) -> None:
    """A process that is told to end does so, whatever its output does."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with open_outlet(pipe[1]) as out:
            out.offer(b"x" * LIMIT_BYTES)
            began = loop.time()
        return loop.time() - began

    assert CLOSE_S <= run(main()) < CLOSE_S + 1


def test_a_reader_that_has_left_is_told_of_once(pipe: tuple[int, int]) -> None:
    """`tailrace serve | head`: who waits for it gets BrokenPipeError; more output goes nowhere."""
    os.close(pipe[0])

    async def main() -> None:
        async with open_outlet(pipe[1]) as out:
            out.write("anything\n")
            out.flush()
            with pytest.raises(BrokenPipeError):
                await out.wait_lost()
            for _ in range(3000):
                await out.wait_room()
                assert out.offer(b"x" * 1024)

    run(main())
