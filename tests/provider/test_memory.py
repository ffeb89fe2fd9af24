"""The in-memory provider conforms, and can play the failures that tests of others need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tailrace.errors import HandlerNotLoaded
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.provider.conformance import CHECKS, Behaviour, Check, Subject, run_check
from tailrace.provider.contract import Exit
from tailrace.provider.memory import MemoryCall, MemoryProvider, MemoryReply

BUNDLE = "1" * 64


@asynccontextmanager
async def open_subject() -> AsyncIterator[Subject]:
    provider = MemoryProvider()
    provider.bundles = {BUNDLE}

    async def make_spec(name: str, behaviour: Behaviour) -> FunctionSpec:
        match behaviour:
            case "cannot-load":
                provider.fail_starts(name, HandlerNotLoaded("no module named numpy"))
            case "never-loads":
                provider.hold_starts(name)
            case "stubborn":
                provider.make_stubborn(name)
            case "answers":
                pass
        return FunctionSpec(FunctionName(name), name, BUNDLE)

    try:
        yield Subject(provider, make_spec)
    finally:
        await provider.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check) -> None:
    """The shipped fake passes the suite that the real providers pass."""
    asyncio.run(run_check(check, open_subject))


async def numbers(call: MemoryCall) -> MemoryReply:
    async def items() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number
        if call.target == "/break":
            raise RuntimeError("broken")

    if call.target == "/fail":
        raise RuntimeError("failed")
    return MemoryReply(headers={"X-Kind": call.method}, body=items())


async def _call(provider: MemoryProvider, target: str) -> tuple[bytes, bytes]:
    """Head and whatever follows, read until the connection is over or the last chunk came."""
    replica = await provider.start(FunctionSpec(FunctionName("f"), "f", BUNDLE), "f-1")
    reader, writer = await asyncio.open_unix_connection(replica.address.path)
    writer.write(f"POST {target} HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    while not body.endswith(b"0\r\n\r\n") and (data := await reader.read(1000)):
        body += data
        if b"Content-Length" in head:
            break
    writer.close()
    await provider.aclose()
    return head, body


def test_an_iterator_is_sent_chunk_by_chunk_on_a_kept_connection() -> None:
    """Each item is one chunk, and the end is the final chunk."""
    head, body = asyncio.run(_call(MemoryProvider(numbers), "/"))

    assert b"X-Kind: POST" in head
    assert body == b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n0\r\n\r\n"


def test_a_handler_that_breaks_mid_stream_never_ends_cleanly() -> None:
    """The final chunk is missing."""
    _, body = asyncio.run(_call(MemoryProvider(numbers), "/break"))

    assert not body.endswith(b"0\r\n\r\n")


def test_a_handler_that_fails_at_once_is_a_500_of_the_function() -> None:
    """The status is 500 and the head names the function's fault."""
    head, body = asyncio.run(_call(MemoryProvider(numbers), "/fail"))

    assert head.startswith(b"HTTP/1.1 500")
    assert b"X-Tailrace-Fault: function" in head
    assert body == b"RuntimeError in the handler\n"


def test_a_replica_dies_as_told() -> None:
    """``die`` is seen by who waits for the exit."""

    async def run() -> Exit:
        provider = MemoryProvider()
        replica = await provider.start(FunctionSpec(FunctionName("f"), "f", BUNDLE), "f-1")
        waiting = asyncio.ensure_future(replica.wait_exit())
        replica.die(-11, "segmentation fault")
        try:
            return await waiting
        finally:
            await provider.aclose()

    assert asyncio.run(run()) == Exit(-11, "segmentation fault")
