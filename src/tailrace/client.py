"""A typed client of the gateway's API, for the CLI, tests and programs.

    async with open_client("http://127.0.0.1:8080") as client:
        await client.deploy(deployment)

Whatever httpx or the gateway reports becomes an error of our tree here: in `_talking`, `_refusal` and
`Reply.chunks`.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

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
    ReplicaFailed,
    TailraceError,
    TooLarge,
    UnsupportedContent,
)
from tailrace.gateway_url import is_local, parse_gateway
from tailrace.names import FunctionName
from tailrace.wire import openfaas

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

_BY_STATUS: dict[int, type[TailraceError]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: AlreadyExists,
    413: TooLarge,
    415: UnsupportedContent,
}


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a deploy answered: the revision to wait for, and whether the function is new."""

    revision: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make. ``path`` and ``query`` come after the function's name; a body is whole."""

    function: FunctionName
    body: bytes = b""
    method: str = "POST"
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@asynccontextmanager
async def open_client(gateway: str, *, authorization: str = "") -> AsyncIterator[Client]:
    """A client of the gateway at this URL. Leaving the context closes its connections.

    Args:
        authorization: The value of the Authorization header for ``/system/``; a user and password in the
            URL are used when it is empty.
    Raises:
        InvalidRequest: the URL is none.
    """
    url, found = parse_gateway(gateway)
    timeout = httpx.Timeout(REPLY_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None)
    # Loading the certificate store takes 20 ms, for nothing over plain HTTP; an empty one trusts nobody.
    is_plain = url.startswith("http:")
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else ssl.create_default_context()
    http = httpx.AsyncClient(
        base_url=url,
        timeout=timeout,
        verify=verify,
        headers={"User-Agent": f"tailrace/{__version__}"},
        limits=httpx.Limits(max_connections=None),
        trust_env=not is_local(url),  # a proxy cannot reach this machine's loopback
    )
    async with http:
        yield Client(http, url, authorization or found)


class Client:
    """The gateway's API as methods. Make it with `open_client`.

    Every method raises GatewayUnreachable when nobody answers, and otherwise the error of our tree that
    fits the gateway's status, with the gateway's own text.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, authorization: str) -> None:
        self.url = url
        self._http = http
        self._auth = {"Authorization": authorization} if authorization else {}

    def function_url(self, name: FunctionName) -> str:
        """Where the function is called."""
        return f"{self.url}/function/{name.short}"

    async def info(self) -> openfaas.GatewayInfo:
        """Versions of the gateway and its provider."""
        return _decode((await self._system("GET", "/system/info")).body, openfaas.GatewayInfo)

    async def list_functions(self, namespace: str = "") -> list[openfaas.FunctionStatus]:
        """The functions of a namespace, the default one when empty."""
        query = {"namespace": namespace} if namespace else {}
        reply = await self._system("GET", "/system/functions", query=query)
        return _decode(reply.body, list[openfaas.FunctionStatus])

    async def get_function(
        self, name: FunctionName, *, wait_s: float = 0.0, revision: str = ""
    ) -> openfaas.FunctionStatus:
        """One function's status.

        Args:
            wait_s: Wait so long (at most 55) until the revision is ready or has failed once.
        Raises:
            NotFound: it is not deployed.
        """
        query = {"namespace": name.namespace}
        if wait_s:
            query |= {"wait": f"{wait_s:g}", "revision": revision}
        try:
            reply = await self._system("GET", f"/system/function/{name.name}", query=query)
        except NotFound as missing:
            message = missing.message or f"function '{name.short}' is not deployed"
            raise NotFound(message, hint=missing.hint) from None
        return _decode(reply.body, openfaas.FunctionStatus)

    async def wait_settled(self, name: FunctionName, revision: str) -> openfaas.FunctionStatus:
        """The function's status once the revision is ready, has failed, or was replaced by another.

        Waits without end: installing requirements may take minutes. Cancel it, or bound it outside.
        """
        while True:
            status = await self.get_function(name, wait_s=WAIT_S, revision=revision)
            own = status.tailrace
            if own is None or own.settled or own.revision != revision:
                return status

    async def deploy(self, deployment: openfaas.FunctionDeployment) -> Deployed:
        """Update the function, or create it when it is not there."""
        body = msgspec.json.encode(deployment)
        try:
            reply = await self._system("PUT", "/system/functions", body=body)
            is_new = False
        except NotFound:
            reply = await self._system("POST", "/system/functions", body=body)
            is_new = True
        return Deployed(reply.revision, is_new)

    async def remove_function(self, name: FunctionName) -> None:
        """Stop the function and forget it.

        Raises:
            NotFound: it is not deployed.
        """
        wanted = openfaas.DeleteFunctionRequest(function_name=name.name, namespace=name.namespace)
        query = {"namespace": name.namespace}
        await self._system("DELETE", "/system/functions", query=query, body=msgspec.json.encode(wanted))

    async def upload_bundle(self, digest: str, image: str, data: bytes) -> None:
        """Store a packed handler folder and make the image tag mean it."""
        kind = "application/octet-stream"
        path = f"/system/bundles/{digest}"
        await self._system("PUT", path, query={"image": image}, body=data, content_type=kind)

    async def list_secrets(self, namespace: str = "") -> list[str]:
        """The names of a namespace's secrets."""
        query = {"namespace": namespace} if namespace else {}
        reply = await self._system("GET", "/system/secrets", query=query)
        return [secret.name for secret in _decode(reply.body, list[openfaas.Secret])]

    async def create_secret(self, name: str, value: bytes, *, namespace: str = "") -> None:
        """Create a secret.

        Raises:
            AlreadyExists: there is one of that name.
        """
        await self._system("POST", "/system/secrets", body=_secret(name, namespace, value))

    async def put_secret(self, name: str, value: bytes, *, namespace: str = "") -> None:
        """Create a secret, or replace it."""
        body = _secret(name, namespace, value)
        try:
            await self._system("PUT", "/system/secrets", body=body)
        except NotFound:
            await self._system("POST", "/system/secrets", body=body)

    async def remove_secret(self, name: str, *, namespace: str = "") -> None:
        """Remove a secret that no function uses.

        Raises:
            NotFound: there is none of that name.
        """
        await self._system("DELETE", "/system/secrets", body=_secret(name, namespace, b""))

    async def follow_logs(
        self, name: FunctionName, *, since: str = "", tail: int | None = None, is_following: bool = False
    ) -> AsyncIterator[openfaas.LogMessage]:
        """What the function wrote, oldest first, and then, on request, what it writes.

        Args:
            since: RFC 3339; empty for everything that is kept.
            tail: At most so many of the kept lines; None for all.
        """
        query = {"name": name.name, "namespace": name.namespace, "follow": str(is_following).lower()}
        query |= {"since": since} if since else {}
        query |= {"tail": str(tail)} if tail is not None else {}
        read_s = None if is_following else REPLY_TIMEOUT_S
        timeout = httpx.Timeout(REPLY_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=read_s)
        with _talking(self.url):
            request = self._http.stream(
                "GET", "/system/logs", params=query, headers=self._auth, timeout=timeout
            )
            async with request as reply:
                await self._check(reply)
                async for line in _lines(reply):
                    yield _decode(line, openfaas.LogMessage)

    @asynccontextmanager
    async def call(self, call: Call) -> AsyncIterator[Reply]:
        """Call a function; the reply's body is read as it arrives, without any limit of time.

        No credentials of the gateway are sent. Leaving the context closes the call, wherever it stands.
        """
        if not call.method.isascii() or not call.method.isalpha():
            raise InvalidRequest(f"'{call.method}' is no HTTP method")
        path = f"/function/{call.function.short}"
        path += f"/{quote(call.path.lstrip('/'), safe='/%:@!$&()*+,;=~-._')}" if call.path else ""
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        async with AsyncExitStack() as stack:
            with _talking(self.url):
                request = self._http.stream(
                    call.method.upper(), path, params=list(call.query) or None, headers=list(call.headers),
                    content=call.body or None, timeout=timeout,
                )  # fmt: skip
                response = await stack.enter_async_context(request)
            yield Reply(response, call.function)

    async def _system(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> _Answer:
        headers = self._auth | ({"Content-Type": content_type} if body is not None else {})
        with _talking(self.url):
            request = self._http.stream(method, path, params=query, content=body, headers=headers)
            async with request as reply:
                await self._check(reply)
                return _Answer(reply.headers.get("X-Tailrace-Revision", ""), await _read_bounded(reply))

    async def _check(self, reply: httpx.Response) -> None:
        if reply.status_code >= 300:
            raise _refusal(self.url, reply.status_code, await _read_bounded(reply))


@dataclass(frozen=True, slots=True)
class _Answer:
    revision: str
    body: bytes


class Reply:
    """A function's reply: its head, and a body that arrives piece by piece."""

    def __init__(self, response: httpx.Response, function: FunctionName) -> None:
        self._response = response
        self._function = function
        self.status = response.status_code
        self.reason = response.reason_phrase
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.is_native = response.headers.get("X-Tailrace-Dialect") == "native"
        # The gateway's own words, not the function's: no such function, no replica, a broken one.
        self.is_from_gateway = "X-OpenFaaS-Internal" in response.headers
        self.call_id = response.headers.get("X-Call-Id", "")

    @property
    def logs_hint(self) -> str:
        """Where to read why the call failed, with what `tailrace logs` shows of its id."""
        call = f" (call {self.call_id[:SHORT_CALL_ID]})" if self.call_id else ""
        return f"See why: tailrace logs {self._function.short}{call}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises:
            ReplicaFailed: it was cut before its end.
        """
        try:
            async for chunk in self._response.aiter_bytes():
                yield chunk
        except (httpx.TransportError, httpx.DecodingError) as cut:
            raise ReplicaFailed(
                f"the answer of '{self._function.short}' was cut before its end",
                hint=self.logs_hint,
            ) from cut


@contextmanager
def _talking(url: str) -> Iterator[None]:
    """What httpx raises, as errors of ours."""
    try:
        yield
    except httpx.ConnectError as failed:
        if "certificate verify failed" in str(failed):
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


def _refusal(url: str, status: int, body: bytes) -> TailraceError:
    text = body.decode("utf-8", "replace")[:_ERROR_LIMIT_CHARACTERS].strip()
    message, _, hint = text.partition("\n")
    if status == 401:
        return NotAuthenticated(
            f"the gateway at {url} asks for a password", hint=f"Give it once: tailrace login --gateway {url}"
        )
    kind = _BY_STATUS.get(status, InvalidRequest if status < 500 else PlatformError)
    if kind is NotFound and not message:
        return NotFound("")  # the gateway says nothing about what is not there; the caller knows
    return kind(message or f"the gateway at {url} answered {status}", hint=hint.strip() or None)


async def _read_bounded(reply: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in reply.aiter_bytes():
        size += len(chunk)
        if size > _REPLY_LIMIT_BYTES:
            raise PlatformError(f"the gateway answered more than {_REPLY_LIMIT_BYTES >> 20} MiB")
        parts.append(chunk)
    return b"".join(parts)


async def _lines(reply: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in reply.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > _LINE_LIMIT_BYTES:
            raise PlatformError("the gateway sent a log line over 1 MiB")


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as bad:
        raise PlatformError(f"the gateway's answer is not what was expected: {bad}") from bad


def _secret(name: str, namespace: str, value: bytes) -> bytes:
    raw = base64.b64encode(value).decode()
    return msgspec.json.encode(openfaas.Secret(name=name, namespace=namespace, raw_value=raw))
