"""``tailrace invoke``: call a function and print its answer as it comes."""

from __future__ import annotations

import hmac
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import FunctionArgument, Gateway, Namespace
from tailrace.cli.result import FAILED, Result, as_usage, finish, print_error
from tailrace.errors import (
    InvalidRequest,
    InvalidUsage,
    NotFound,
    PlatformError,
    ReplicaFailed,
    TailraceError,
)

if TYPE_CHECKING:
    from tailrace.client import Call, Client, Reply

_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")
_ERROR_LIMIT_BYTES = 64 * 1024


def command(
    name: FunctionArgument,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="TEXT",
            help="The body; @FILE reads a file. Without it the body is stdin; on a terminal it is empty.",
        ),
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X", metavar="VERB", help="The method.")] = "POST",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'K: V'", help="A header; repeatable.")
    ] = None,
    query: Annotated[
        list[str] | None, typer.Option("--query", metavar="K=V", help="A query parameter; repeatable.")
    ] = None,
    content_type: Annotated[
        str, typer.Option("--content-type", metavar="TYPE", help="The body's type. Default: text/plain.")
    ] = "",
    sign: Annotated[
        str, typer.Option("--sign", metavar="HEADER", help="Sign the body with --key, in this header.")
    ] = "",
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="The key for --sign; @FILE reads it from a file.")
    ] = "",
    is_async: Annotated[
        bool, typer.Option("--async", "-a", help="Only hand the call in; print the run's id.")
    ] = False,
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="A path below the function.")] = "",
    gateway: Gateway = None,
    namespace: Namespace = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per event.")] = False,
) -> None:
    """Call a function and print its answer as it comes.

    The body is -d, else stdin; on a terminal nothing is waited for, and the body is empty.

    Of an event stream the data of each event is printed, tokens as running text. The exit code is 1 when
    the call failed, also in the middle of its stream.

    \b
    Examples:
      tailrace invoke stream -d 'What are some calorie dense foods?'
      cat question.txt | tailrace invoke stream
      tailrace invoke api --method GET --path /users/7 --query verbose=1
      tailrace invoke report --async -H 'X-Callback-Url: https://example.com/done'
      tailrace invoke hook --sign X-Hub-Signature-256 --key @key.txt -d '{}'
    """
    from tailrace.cli.session import function_name, with_client
    from tailrace.client import Call, check_call

    body = _body(data, method)
    call = Call(
        function=function_name(name, namespace),
        body=body,
        method=method,
        path=path,
        query=tuple(_pair(text, "=", "--query") for text in query or ()),
        headers=(*_headers(header or [], content_type), *_signature(sign, key, body)),
        is_async=is_async,
    )
    with as_usage():
        check_call(call)

    async def use(client: Client) -> Result:
        return await run(client, call, as_json=as_json)

    finish(with_client(gateway, use), as_json=as_json and is_async)


async def run(client: Client, call: Call, *, as_json: bool) -> Result:
    """Make the call and print; the result holds the exit code only."""
    async with client.call(call) as reply:
        if call.is_async and reply.status == 202:
            return _accepted(client, reply)
        if reply.is_from_gateway or call.is_async:
            raise await _gateway_error(reply)
        error = await _print(reply, as_json=as_json)
    if error is None and reply.status >= 400:
        what = f"'{call.function.short}' answered {reply.status} {reply.reason}".rstrip()
        error = PlatformError(what, hint=reply.logs_hint if reply.status >= 500 else None)
    if error is not None:
        print_error(error)
        return Result(exit_code=FAILED)
    return Result()


def _accepted(client: Client, reply: Reply) -> Result:
    location = f"{client.url}{reply.location}" if reply.location.startswith("/") else reply.location
    notes = (f"accepted; watch it: tailrace runs attach {reply.call_id}",)
    return Result(reply.call_id, {"id": reply.call_id, "location": location}, notes)


async def _print(reply: Reply, *, as_json: bool) -> TailraceError | None:
    from tailrace.cli.answer import Answer
    from tailrace.wire.sse import EventTooLarge

    answer = Answer(reply.content_type, is_native=reply.is_native, as_json=as_json)
    failed: TailraceError | None = None
    try:
        async for chunk in reply.chunks():
            _write(answer.take(chunk))
        _write(answer.end())
    except ReplicaFailed as cut:
        _write(answer.end())
        failed = cut
    except EventTooLarge as too_large:
        failed = ReplicaFailed(f"the answer cannot be read: {too_large}", hint=reply.logs_hint)
    if answer.error and reply.status < 400 and not isinstance(failed, ReplicaFailed):
        failed = ReplicaFailed(f"the stream failed: {answer.error}", hint=reply.logs_hint)
    return failed


async def _gateway_error(reply: Reply) -> TailraceError:
    text = b""
    async for chunk in reply.chunks():
        text += chunk
        if len(text) > _ERROR_LIMIT_BYTES:
            break
    message, _, hint = text.decode("utf-8", "replace").strip().partition("\n")
    kind = NotFound if reply.status == 404 else PlatformError
    return kind(message or f"the gateway answered {reply.status} {reply.reason}", hint=hint or None)


def _write(data: bytes) -> None:
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _body(data: str | None, method: str) -> bytes:
    if data is not None and data.startswith("@"):
        return _read_file(data[1:])
    if data is not None:
        return data.encode("utf-8", "surrogateescape")
    # Nobody types a body into a terminal by accident: without -d there is none, and nothing hangs.
    if method.upper() in _WITHOUT_BODY or sys.stdin is None or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()


def _signature(header: str, key: str, body: bytes) -> tuple[tuple[str, str], ...]:
    """``sha256=<hex HMAC>`` of the body, as OpenFaaS's clients sign."""
    if bool(header) != bool(key):
        raise InvalidUsage("--sign HEADER and --key KEY belong together")
    if not header:
        return ()
    secret = _read_file(key[1:]).strip() if key.startswith("@") else key.encode("utf-8", "surrogateescape")
    return ((header, f"sha256={hmac.new(secret, body, 'sha256').hexdigest()}"),)


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a person's path, opened once
            return file.read()
    except OSError as failed:
        raise InvalidRequest(f"cannot read {path}: {failed.strerror}") from failed


def _headers(texts: list[str], content_type: str) -> tuple[tuple[str, str], ...]:
    headers = [_pair(text, ":", "--header") for text in texts]
    if not any(key.lower() == "content-type" for key, _ in headers):
        headers.append(("Content-Type", content_type or "text/plain"))
    return tuple(headers)


def _pair(text: str, mark: str, option: str) -> tuple[str, str]:
    key, found, value = text.partition(mark)
    if not found or not key.strip():
        raise InvalidUsage(f"{option} '{text}' is not of the form KEY{mark}VALUE")
    return key.strip(), value.strip()
