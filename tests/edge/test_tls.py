"""What the edge promises over TLS, with real handshakes and a replica whose bytes are written by hand."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tailrace.edge.certificate import Certificate, open_certificate
from tailrace.edge.connection import Connection
from tailrace.errors import InvalidRequest
from tailrace.settings import load
from tests.kit.certificate import Pair, make_pair
from tests.kit.edge import EdgeUnderTest, Script, edge_before, read_request
from tests.kit.loops import run

GET = b"GET /function/fn HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def tls_edge(
    pair: Pair, script: Script, *, header_timeout_s: float = 15
) -> AsyncIterator[EdgeUnderTest]:
    context = Certificate(pair.cert, pair.key).context
    async with edge_before(script, tls=context, header_timeout_s=header_timeout_s) as under_test:
        yield under_test


async def connect(port: int, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")


async def answer_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(OK)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read(-1)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_stream_arrives_event_by_event(pair: Pair) -> None:
    """Each event is decrypted by its client within 100 ms of being sent, before the next one exists."""

    async def main() -> None:
        sent: asyncio.Queue[float] = asyncio.Queue()
        was_read = asyncio.Event()

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(EVENTS)
            for n in range(5):
                was_read.clear()
                writer.write(chunk(b"data: %d\n\n" % n))
                sent.put_nowait(time.monotonic())
                await was_read.wait()
            writer.write(b"0\r\n\r\n")

        async with tls_edge(pair, tell) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(GET)
            delays = []
            for n in range(5):
                async with asyncio.timeout(5):
                    await reader.readuntil(b"data: %d\n\n" % n)
                delays.append(time.monotonic() - await sent.get())
                was_read.set()
            end = await read_to_end(reader)
            writer.close()

        assert end.endswith(b"0\r\n\r\n")
        assert max(delays) < 0.1

    run(main())


def test_the_function_learns_that_its_caller_came_by_https(pair: Pair) -> None:
    """`X-Forwarded-Proto: https`, from which frameworks make their URLs."""

    async def main() -> None:
        heads = []

        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append((await read_request(reader))[0].lower())
            writer.write(OK)

        async with tls_edge(pair, keep) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(GET)
            await read_to_end(reader)
            writer.close()

        assert b"\r\nx-forwarded-proto: https\r\n" in heads[0]

    run(main())


def test_the_protocol_is_http11_over_tls_12_or_newer(pair: Pair) -> None:
    """ALPN chooses http/1.1, also from a client that would like h2; TLS 1.1 finds nothing in common."""

    async def main() -> None:
        async with tls_edge(pair, answer_ok) as under_test:
            modern = pair.client_context()
            modern.set_alpn_protocols(["h2", "http/1.1"])
            old = pair.client_context()
            old.set_ciphers("DEFAULT:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1

            _, writer = await connect(under_test.port, modern)
            chosen = writer.get_extra_info("ssl_object")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await connect(under_test.port, old)

            assert ("http/1.1", "TLSv1.3") == (chosen.selected_alpn_protocol(), chosen.version())
            writer.close()

    run(main())


def test_a_broken_chunked_body_is_incomplete(pair: Pair) -> None:
    """A replica that dies leaves its client without a last chunk."""

    async def main() -> None:
        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(PLAIN + chunk(b"part"))
            await writer.drain()
            writer.transport.abort()

        async with tls_edge(pair, die) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(GET)
            with contextlib.suppress(ConnectionResetError):
                answer = await read_to_end(reader)
            writer.close()

        assert answer.endswith(b"4\r\npart\r\n")

    run(main())


def test_a_broken_body_without_framing_is_reset_and_not_said_goodbye_to(pair: Pair) -> None:
    """To HTTP/1.0 the end of the connection is the end of the body: close_notify would make it whole."""

    async def main() -> None:
        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(PLAIN + chunk(b"part"))
            await writer.drain()
            writer.transport.abort()

        async with tls_edge(pair, die) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(b"GET /function/fn HTTP/1.0\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                part = await reader.readexactly(4)
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
            writer.close()

        assert (True, b"part") == (head.startswith(b"HTTP/1.1 200"), part)

    run(main())


@pytest.mark.parametrize("how", ["goodbye", "reset"])
def test_a_client_that_leaves_aborts_the_upstream_request(pair: Pair, how: str) -> None:
    """With a TLS goodbye or without one: the replica's connection is lost."""

    async def main() -> None:
        gone = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(EVENTS + chunk(b"data: 1\n\n"))
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            gone.set()

        async with tls_edge(pair, wait) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(GET)
            async with asyncio.timeout(5):
                await reader.readuntil(b"data: 1\n\n")
                if how == "goodbye":
                    writer.close()
                else:
                    writer.transport.abort()
                await gone.wait()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    run(main())


def test_plain_http_to_the_tls_port_ends_at_once(pair: Pair) -> None:
    """Whoever forgets the s in https gets an end, not a wait."""

    async def main() -> None:
        async with tls_edge(pair, answer_ok) as under_test:
            reader, writer = await under_test.connect()
            writer.write(GET)
            began = time.monotonic()
            with contextlib.suppress(ConnectionResetError):
                await read_to_end(reader)
            writer.close()

        assert time.monotonic() - began < 1

    run(main())


@pytest.mark.slow
def test_a_client_that_never_shakes_hands_is_let_go(pair: Pair) -> None:
    """The header clock runs from the connection on."""

    async def main() -> None:
        async with tls_edge(pair, answer_ok, header_timeout_s=0.3) as under_test:
            reader, writer = await under_test.connect()
            began = time.monotonic()
            with contextlib.suppress(ConnectionResetError):
                await read_to_end(reader)
            writer.close()

        assert 0.2 < time.monotonic() - began < 3

    run(main())


def test_a_refused_request_is_answered_before_its_connection_ends(pair: Pair) -> None:
    """Over TLS a side cannot be ended alone; the answer arrives all the same."""

    async def main() -> None:
        async with tls_edge(pair, answer_ok) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.close()

        assert head.startswith(b"HTTP/1.1 400 ")

    run(main())


def test_a_large_answer_passes_whole_with_backpressure(pair: Pair) -> None:
    """16 MiB through a client that reads slowly at first: no byte is lost or held beyond the sockets."""

    async def main() -> None:
        size = 16 << 20

        async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            block = bytes(range(256)) * 256
            for _ in range(size // len(block)):
                writer.write(block)
                await writer.drain()

        async with tls_edge(pair, give) as under_test:
            reader, writer = await connect(under_test.port, pair.client_context())
            writer.write(GET)
            async with asyncio.timeout(20):
                await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(size)
            writer.close()

        assert body == bytes(range(256)) * (size // 256)

    run(main())


def test_a_reload_gives_new_connections_the_new_certificate(tmp_path: Path) -> None:
    """The connection that is open goes on with what it has; a file that does not fit changes nothing."""

    async def main() -> None:
        pair = make_pair(tmp_path)
        certificate = Certificate(pair.cert, pair.key)
        trusting_old = pair.client_context()
        async with edge_before(answer_ok, tls=certificate.context) as under_test:
            reader, writer = await connect(under_test.port, trusting_old)

            make_pair(tmp_path)
            certificate.reload()

            (_, fresh) = await connect(under_test.port, pair.client_context())
            fresh.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(under_test.port, trusting_old)
            pair.key.write_text("damaged")
            with pytest.raises(InvalidRequest, match="holds no private key"):
                certificate.reload()
            (_, fresh) = await connect(under_test.port, pair.client_context())
            fresh.close()
            writer.write(GET)
            answer = await read_to_end(reader)
            writer.close()

        assert answer.endswith(b"ok")

    run(main())


def open_flags(**flags: object) -> Certificate | None:
    return open_certificate(load(flags, env={}))


def test_without_files_there_is_no_tls() -> None:
    """HTTP is the default."""
    assert open_flags() is None


@pytest.mark.parametrize("given", ["cert", "key"])
def test_one_file_without_the_other_is_refused(pair: Pair, given: str) -> None:
    """The text names the setting that is missing."""
    missing = {"cert": "tls_key", "key": "tls_cert"}[given]

    with pytest.raises(InvalidRequest, match=f"without {missing}"):
        open_flags(**{f"tls_{given}": getattr(pair, given)})


def _unusable(pair: Pair, folder: Path) -> Iterator[tuple[Path, Path, str]]:
    (folder / "other").mkdir()
    other = make_pair(folder / "other")
    junk = folder / "junk.pem"
    junk.write_text("junk")
    encrypted = folder / "encrypted.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", pair.key, "-aes128", "-passout", "pass:x", "-out", encrypted],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    shared = folder / "shared.pem"
    shared.write_bytes(pair.key.read_bytes())
    shared.chmod(0o644)
    yield folder / "none.pem", pair.key, "tls_cert '.*' cannot be read: No such file"
    yield pair.cert, folder / "none.pem", "tls_key '.*' cannot be read: No such file"
    yield pair.cert, folder, "tls_key '.*' cannot be read: Is a directory"
    yield junk, pair.key, "tls_cert '.*' holds no certificate"
    yield pair.cert, pair.cert, "tls_key '.*' holds no private key"
    yield pair.cert, other.key, "does not belong to tls_cert"
    yield pair.cert, encrypted, "is encrypted"
    yield pair.cert, shared, "can be read by everybody"


def test_files_that_cannot_be_used_are_refused_with_the_reason(pair: Pair, tmp_path: Path) -> None:
    """Missing, junk, exchanged, of another pair, encrypted, open to everybody: each is told by its path."""
    for cert, key, reason in _unusable(pair, tmp_path):
        with pytest.raises(InvalidRequest, match=reason):
            open_flags(tls_cert=cert, tls_key=key)


def test_a_key_that_its_group_may_read_is_taken(pair: Pair, tmp_path: Path) -> None:
    """A key is shared with what renews it by a group."""
    key = tmp_path / "key.pem"
    key.write_bytes(pair.key.read_bytes())
    key.chmod(0o640)

    assert open_flags(tls_cert=pair.cert, tls_key=key) is not None


def test_a_call_that_ends_after_its_client_was_lost_is_no_fault(pair: Pair) -> None:
    """A TLS connection is lost one turn before its protocol is told: a call may be cut in between."""

    async def main() -> None:
        async with tls_edge(pair, answer_ok) as under_test:
            _, writer = await connect(under_test.port, pair.client_context())
            async with asyncio.timeout(5):
                while not under_test.edge.clients:
                    await asyncio.sleep(0.005)
                (client,) = under_test.edge.clients
                writer.transport.abort()
                while client.transport.get_extra_info("socket") is not None:
                    await asyncio.sleep(0)
            assert isinstance(client, Connection)
            client.cut(with_reset=True)

    run(main())
