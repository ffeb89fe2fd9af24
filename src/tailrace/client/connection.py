"""The connection to a gateway: requests of the control API, and whatever breaks as an error of our tree."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict, TypeVar

import httpx
import msgspec

from tailrace import __version__
from tailrace.errors import (
    AlreadyExists,
    GatewayUnreachable,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PlatformError,
    RunExpired,
    TailraceError,
    TooLarge,
    UnsupportedContent,
)
from tailrace.gateway_url import is_local

_T = TypeVar("_T")
CONNECT_TIMEOUT_S = 5.0
# The gateway answers all but waits, logs and calls at once; faas-cli waits as long.
REPLY_TIMEOUT_S = 60.0
# The longest wait the gateway grants in one request is 55 s.
WAIT_S = 50.0
# So many letters of a call's id tell it from the others on a screen.
SHORT_CALL_ID = 8
_REPLY_LIMIT_BYTES = 64 * 1024 * 1024
_ERROR_LIMIT_CHARACTERS = 16 * 1024
_LINE_LIMIT_BYTES = 1024 * 1024
_UNTRUSTED = "certificate verify failed"

_BY_STATUS: dict[int, type[TailraceError]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: AlreadyExists,
    410: RunExpired,
    413: TooLarge,
    415: UnsupportedContent,
}


class HttpSettings(TypedDict):
    """What httpx's clients are made with, the one that awaits and the one that blocks."""

    verify: ssl.SSLContext
    headers: dict[str, str]
    limits: httpx.Limits
    trust_env: bool


def http_settings(url: str, *more: str, is_redirected: bool = False) -> HttpSettings:
    """How these URLs are reached, and where they lead when redirects are followed."""
    # Loading the certificate store takes 20 ms, for nothing over plain HTTP; an empty one trusts nobody.
    is_plain = not is_redirected and all(one.startswith("http:") for one in (url, *more))
    return {
        "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else ssl.create_default_context(),
        "headers": {"User-Agent": f"tailrace/{__version__}"},
        "limits": httpx.Limits(max_connections=None),
        "trust_env": not is_local(url),  # a proxy cannot reach this machine's loopback
    }


@dataclass(frozen=True, slots=True)
class Answer:
    revision: str
    body: bytes


class Connection:
    """Sends requests to one gateway. The nouns of the API are classes on top of it, one file each."""

    def __init__(self, http: httpx.AsyncClient, url: str, authorization: str) -> None:
        self.url = url
        self.http = http
        self.auth = {"Authorization": authorization} if authorization else {}

    async def system(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        headers = self.auth | ({"Content-Type": content_type} if body is not None else {})
        with talking(self.url):
            request = self.http.stream(method, path, params=query, content=body, headers=headers)
            async with request as reply:
                await self.check(reply)
                return Answer(reply.headers.get("X-Tailrace-Revision", ""), await read_bounded(reply))

    async def check(self, reply: httpx.Response) -> None:
        if reply.status_code >= 300:
            body = await read_bounded(reply)
            raise refusal(self.url, reply.status_code, body, has_password=bool(self.auth))


@contextmanager
def talking(url: str) -> Iterator[None]:
    """What httpx raises, as errors of ours."""
    try:
        yield
    except httpx.ConnectError as failed:
        if _UNTRUSTED in str(failed):
            raise GatewayUnreachable(
                f"{url} answers with a certificate that is not trusted here: {failed}",
                hint="Name its authority: SSL_CERT_FILE=root.crt tailrace ...",
            ) from failed
        raise GatewayUnreachable(
            f"no gateway answers at {url}", hint="Start one: tailrace up (or name another: --gateway URL)."
        ) from failed
    except httpx.TimeoutException as failed:
        raise GatewayUnreachable(f"the gateway at {url} did not answer in time") from failed
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError) as failed:
        raise InvalidRequest(f"the request cannot be sent: {failed}") from failed
    except httpx.HTTPError as failed:
        raise GatewayUnreachable(f"the connection to the gateway at {url} broke") from failed


def is_hopeless(error: GatewayUnreachable) -> bool:
    """Whether trying again cannot help, as it may after other failures of a connection."""
    return isinstance(error.__cause__, httpx.ConnectError) and _UNTRUSTED in str(error.__cause__)


def refusal(url: str, status: int, body: bytes, *, has_password: bool = False) -> TailraceError:
    text = body.decode("utf-8", "replace")[:_ERROR_LIMIT_CHARACTERS].strip()
    message, _, hint = text.partition("\n")
    if status == 401 and has_password:
        return NotAuthenticated(
            f"the gateway at {url} does not take the user and password that it was given",
            hint=f"Give the right ones: tailrace login --gateway {url}",
        )
    if status == 401:
        return NotAuthenticated(
            f"the gateway at {url} asks for a password", hint=f"Give it once: tailrace login --gateway {url}"
        )
    kind = _BY_STATUS.get(status, InvalidRequest if status < 500 else PlatformError)
    if kind is NotFound and not message:
        return NotFound("")  # the gateway says nothing about what is not there; the caller knows
    return kind(message or f"the gateway at {url} answered {status}", hint=hint.strip() or None)


async def read_bounded(reply: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in reply.aiter_bytes():
        _grow(body, chunk)
    return bytes(body)


def join_bounded(chunks: Iterable[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        _grow(body, chunk)
    return bytes(body)


def _grow(body: bytearray, chunk: bytes) -> None:
    if len(body) + len(chunk) > _REPLY_LIMIT_BYTES:
        raise PlatformError(f"the gateway answered more than {_REPLY_LIMIT_BYTES >> 20} MiB")
    body += chunk


async def read_lines(reply: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in reply.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > _LINE_LIMIT_BYTES:
            raise PlatformError("the gateway sent a log line over 1 MiB")


def decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as bad:
        raise PlatformError(f"the gateway's answer is not what was expected: {bad}") from bad
