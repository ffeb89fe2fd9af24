"""Uploads of anybody: how slow one may be, and how many of one address come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tailrace.build.builder import PLACES, Builder
from tailrace.build.pace import Pace, Turns
from tailrace.build.sealed import open_box_key
from tailrace.build.store import BundleStore
from tailrace.errors import NotAuthenticated, QueueFull, ReadTimeout, TailraceError
from tests.kit.loops import run
from tests.kit.remote import SECRET, context_tar, signed

BODY = context_tar({"template.yml": "language: x\nfprocess: cat\n"})
RIGHT = signed(BODY)["X-Build-Signature"]


async def coming(pieces: Sequence[bytes], every_s: float = 0.0) -> AsyncIterator[bytes]:
    """Pieces with pauses before them."""
    for piece in pieces:
        await asyncio.sleep(every_s)
        yield piece


async def silent() -> AsyncIterator[bytes]:
    """An upload that says it comes, and does not."""
    await asyncio.Event().wait()
    yield b""


def builder(folder: Path, **more: object) -> Builder:
    """A builder whose environments nobody builds: no test here gets so far."""
    for name in ("builds", "bundles"):
        (folder / name).mkdir()

    async def install(*_: object, **__: object) -> None: ...

    return Builder(
        folder / "builds", bundles=BundleStore(folder / "bundles", limit_bytes=1 << 20), install=install,
        key=open_box_key(folder), secret=SECRET.encode, limit_bytes=1 << 20, bundle_limit_bytes=1 << 20,
        **more,  # type: ignore[arg-type]  # pace and turns
    )  # fmt: skip


async def upload(
    to: Builder, chunks: AsyncIterator[bytes], address: str, signature: str = RIGHT
) -> type[TailraceError] | None:
    """How it ended; None: it was taken."""
    try:
        async with to.receiving(chunks, signature, address):
            return None
    except TailraceError as error:
        return type(error)


@pytest.mark.parametrize(
    ("pieces", "every_s"), [([], 0.0), ([b"x"], 0.01), ([b"x" * 50] * 8, 0.02), ([b"x" * 100] * 4, 0.09)]
)
def test_an_upload_that_makes_progress_comes_whole(pieces: list[bytes], every_s: float) -> None:
    """A hundred bytes in 0.1 s are asked of this one, in the first 0.05 s nothing."""

    async def main() -> list[bytes]:
        pace = Pace(grace_s=0.05, window_s=0.15, window_bytes=100)
        return [piece async for piece in pace.hold(coming(pieces, every_s))]

    assert pieces == run(main())


@pytest.mark.parametrize("size", [1, 5, 10])
def test_an_upload_that_trickles_is_ended(size: int) -> None:
    """However regularly: under the least of a window, after the grace."""

    async def main() -> int:
        got = 0
        with pytest.raises(ReadTimeout, match=r"at least 100 bytes are expected every 0\.1 s"):
            async for piece in Pace(grace_s=0.05, window_s=0.1, window_bytes=100).hold(
                coming([b"x" * size] * 1000, 0.03)
            ):
                got += len(piece)
        return got

    assert run(main()) <= 5 * size


def test_a_start_that_was_fast_buys_no_pause() -> None:
    """A thousand windows' worth at once; the next one has to come all the same."""

    async def main() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"x" * 100_000
            async for piece in silent():
                yield piece

        async for _ in Pace(grace_s=0.0, window_s=0.05, window_bytes=100).hold(pieces()):
            pass

    with pytest.raises(ReadTimeout):
        run(main())


def test_an_upload_has_an_end() -> None:
    async def main() -> None:
        async for _ in Pace(window_s=0.1, window_bytes=1, total_s=0.2).hold(coming([b"x"] * 100, 0.01)):
            pass

    with pytest.raises(ReadTimeout, match=r"within 0\.2 s"):
        run(main())


def test_who_waits_to_be_written_down_is_not_slow() -> None:
    """Only time in which the client is waited for counts."""

    async def main() -> int:
        got = 0
        async for piece in Pace(grace_s=0.0, window_s=0.1, window_bytes=100).hold(coming([b"x"] * 5)):
            got += len(piece)
            await asyncio.sleep(0.05)
        return got

    assert 5 == run(main())


def test_one_address_cannot_keep_the_others_from_building(tmp_path: Path) -> None:
    """It sends nothing, from any address of its /64: three uploads of it are waited for, in three places."""

    async def main() -> tuple[list[type[TailraceError] | None], type[TailraceError] | None]:
        to = builder(tmp_path, turns=Turns(wait_s=0.1))
        flood = [asyncio.create_task(upload(to, silent(), f"2001:db8::{n:x}")) for n in range(PLACES * 2)]
        while sum(task.done() for task in flood) < PLACES * 2 - 3:
            await asyncio.sleep(0.01)
        other = await upload(to, coming([BODY]), "2001:db8:1::1")
        refused = [task.result() for task in flood if task.done()]
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        return refused, other

    refused, other = run(main())

    assert [QueueFull] * (PLACES * 2 - 3) == refused
    assert other is None
    assert [] == list((tmp_path / "builds").iterdir())


def test_more_uploads_of_an_address_wait_their_turn(tmp_path: Path) -> None:
    """Nothing is refused that comes soon, and what is signed takes no turn while it is built."""

    async def main() -> list[object]:
        to = builder(tmp_path)
        async with AsyncExitStack() as built:
            for _ in range(4):
                await built.enter_async_context(to.receiving(coming([BODY]), RIGHT, "10.0.0.1"))
            return list(
                await asyncio.gather(
                    *(upload(to, coming([BODY[:9], BODY[9:]], 0.02), "10.0.0.1") for _ in range(6))
                )
            )

    assert [None] * 6 == run(main())


def test_an_upload_that_fails_gives_its_turn_back(tmp_path: Path) -> None:
    """Unsigned, cut, or slow: the next one is received."""

    async def main() -> list[object]:
        to = builder(tmp_path, pace=Pace(grace_s=0.0, window_s=0.05), turns=Turns(wait_s=5.0))
        wrong = [await upload(to, coming([b"x"]), "a") for _ in range(5)]
        slow = await asyncio.gather(*(upload(to, silent(), "a") for _ in range(5)))
        return [*wrong, *slow, await upload(to, coming([BODY]), "a"), len(to._turns._known)]

    assert [*[NotAuthenticated] * 5, *[ReadTimeout] * 5, None, 0] == run(main())
