"""client: whatever a gateway does, a caller gets an error of our tree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tailrace import errors
from tailrace.client import Call, open_client, stream
from tailrace.gateway_url import basic, is_local, parse_gateway
from tailrace.names import FunctionName
from tests.kit.loops import run

FN = FunctionName("fn")


@contextlib.asynccontextmanager
async def gateway(*replies: bytes, seen: list[bytes] | None = None) -> AsyncIterator[str]:
    """A server that answers the n-th request by the n-th reply and closes."""
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def reply(status: int, body: bytes = b"", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (reply(400, b"bad\ndo this"), errors.InvalidRequest, "bad\ndo this"),
        (reply(401, b"invalid credentials"), errors.NotAuthenticated, "tailrace login"),
        (reply(403, b"no"), errors.NotAllowed, "no"),
        (reply(404, b"not there"), errors.NotFound, "not there"),
        (reply(404), errors.NotFound, "function 'fn' is not deployed"),
        (reply(409, b"twice"), errors.AlreadyExists, "twice"),
        (reply(413, b"big"), errors.TooLarge, "big"),
        (reply(415, b"kind"), errors.UnsupportedContent, "kind"),
        (reply(418, b"tea"), errors.InvalidRequest, "tea"),
        (reply(302, headers=b"Location: http://elsewhere/\r\n"), errors.InvalidRequest, "answered 302"),
        (reply(500), errors.PlatformError, "answered 500"),
        (reply(502, b"\xff" * 100_000), errors.PlatformError, "�"),
        (reply(200, b"<html>"), errors.PlatformError, "not what was expected"),
        (reply(200, b'{"name":1}'), errors.PlatformError, "not what was expected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", errors.GatewayUnreachable, "broke"),
        (b"SSH-2.0-OpenSSH\r\n", errors.GatewayUnreachable, "broke"),
        (b"", errors.GatewayUnreachable, "broke"),
    ],
)
def test_each_failure_is_an_error_of_ours(
    answer: bytes, error: type[errors.TailraceError], words: str
) -> None:
    """Status, garbage and broken connections alike; texts are bounded."""

    async def main() -> None:
        async with gateway(answer) as url, open_client(url) as client:
            with pytest.raises(error) as failed:
                await client.get_function(FN)
        assert type(failed.value) is error
        assert words in failed.value.text
        assert len(failed.value.text) <= 16 * 1024 + 100

    run(main())


def test_credentials_go_to_the_control_plane_only() -> None:
    """A function never sees the gateway's password."""
    seen: list[bytes] = []

    async def main() -> None:
        async with (
            gateway(reply(200, b"[]"), reply(200), seen=seen) as url,
            open_client(url, authorization=basic("admin", "pw")) as client,
        ):
            await client.list_functions()
            async with client.call(Call(FN)) as answer:
                assert [chunk async for chunk in answer.chunks()] == []

    run(main())
    assert [b"Authorization: Basic" in head for head in seen] == [True, False]


def test_deploying_creates_what_cannot_be_updated() -> None:
    """PUT first; POST on 404, as faas-cli does."""
    from tailrace.wire.openfaas import FunctionDeployment

    seen: list[bytes] = []

    async def main() -> None:
        replies = (reply(404, b"no"), reply(202, headers=b"X-Tailrace-Revision: r1\r\n"))
        async with gateway(*replies, seen=seen) as url, open_client(url) as client:
            deployed = await client.deploy(FunctionDeployment("fn", "image"))
        assert (deployed.revision, deployed.is_new) == ("r1", True)

    run(main())
    assert [head.split(b" ")[0] for head in seen] == [b"PUT", b"POST"]


def test_an_answer_that_is_cut_is_an_error() -> None:
    """What came before is there; the end is no end."""

    async def main() -> None:
        cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        async with gateway(cut) as url, open_client(url) as client, client.call(Call(FN)) as answer:
            got = []
            with pytest.raises(errors.ReplicaFailed, match="cut before its end"):
                async for chunk in answer.chunks():
                    got.append(chunk)
        assert got == [b"abc"]

    run(main())


@pytest.mark.parametrize(
    ("text", "url", "authorization"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080", ""),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", ""),
        ("https://FN.example.com/base/", "https://fn.example.com/base", ""),
        ("http://[::1]:8080", "http://[::1]:8080", ""),
        ("http://admin:p%40ss@h:1", "http://h:1", "Basic YWRtaW46cEBzcw=="),
    ],
)
def test_a_gateway_is_named_as_people_write_it(text: str, url: str, authorization: str) -> None:
    """Password and closing slash are no part of its name."""
    assert parse_gateway(text) == (url, authorization)


@pytest.mark.parametrize("text", ["", "ftp://h", "http://", "http://h:99999", "http://h/?x=1", "http://[::1"])
def test_what_is_no_gateway_is_refused(text: str) -> None:
    """With an example of one, and without repeating what may hold a password."""
    with pytest.raises(errors.InvalidRequest) as refused:
        parse_gateway(text)

    assert "http://127.0.0.1:8080" in (refused.value.hint or "")


def test_this_machine_is_reached_without_a_proxy() -> None:
    """A proxy's loopback is another one."""
    here = ["http://127.0.0.1:1", "http://localhost", "http://[::1]:8080", "http://0.0.0.0:8080"]
    assert all(is_local(url) for url in here)
    assert not is_local("https://fn.example.com")


@pytest.mark.parametrize("method", ["", "GET /", "GE\r\nT", "ÜBER"])
def test_a_method_cannot_smuggle(method: str) -> None:
    """Refused before anything is sent."""

    async def main() -> None:
        async with open_client("http://127.0.0.1:1") as client:
            with pytest.raises(errors.InvalidRequest):
                async with client.call(Call(FN, method=method)):
                    pass

    run(main())


@pytest.mark.parametrize(
    "path",
    [
        "../../system/functions", "/a/../../system/functions", "..", "a/.", "./a",
        "%2e%2e/%2E./system/functions", "..%2f..%2fsystem/functions", "..\\..\\system",
    ],
)  # fmt: skip
def test_a_path_cannot_leave_its_function(path: str) -> None:
    """Nobody on the way can make the control API of it: such a call is not sent at all."""
    seen: list[bytes] = []

    async def main() -> None:
        async with gateway(reply(200), seen=seen) as url, open_client(url) as client:
            with pytest.raises(errors.InvalidRequest, match="segment"):
                async with client.call(Call(FN, path=path)):
                    pass

    run(main())

    assert [] == seen


@pytest.mark.parametrize("path", ["a/...", "/a.b/..c", "%2e%2ea", "users/7", "a//b"])
def test_a_path_below_its_function_is_sent_as_it_is(path: str) -> None:
    """Dots are letters like others where they are not a whole segment."""
    seen: list[bytes] = []

    async def main() -> None:
        async with (
            gateway(reply(200), seen=seen) as url,
            open_client(url) as client,
            client.call(Call(FN, path=path)),
        ):
            pass

    run(main())

    assert [f"/function/{FN.short}/{path.lstrip('/')}".encode()] == [head.split(b" ")[1] for head in seen]


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_a_header_cannot_frame_the_body(name: str) -> None:
    """Of a call and of a stream: what it says could be another length than the body's."""

    async def main() -> None:
        async with open_client("http://127.0.0.1:1") as client:
            with pytest.raises(errors.InvalidRequest, match="follows from the body"):
                async with client.call(Call(FN, body=b"x", headers=((name, "3"),))):
                    pass
        with pytest.raises(errors.InvalidRequest, match="follows from the body"):
            async with stream("http://127.0.0.1:1/function/fn", body=b"x", headers={name: "3"}):
                pass

    run(main())


def test_a_header_cannot_smuggle() -> None:
    """A line end in a value is an error of the caller's."""

    async def main() -> None:
        async with gateway(reply(200)) as url, open_client(url) as client:
            with pytest.raises(errors.InvalidRequest):
                async with client.call(Call(FN, headers=(("X-A", "a\r\nX-B: b"),))):
                    pass

    run(main())
