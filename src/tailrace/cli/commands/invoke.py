"""``tailrace invoke``: call a function and print its answer as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import FunctionArgument, Gateway, Namespace
from tailrace.cli.result import FAILED, Result, finish, print_error
from tailrace.errors import InvalidRequest, NotFound, PlatformError, ReplicaFailed, TailraceError

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
    """
    from tailrace.cli.session import function_name, with_client
    from tailrace.client import Call

    call = Call(
        function=function_name(name, namespace),
        body=_body(data, method),
        method=method,
        path=path,
        query=tuple(_pair(text, "=", "--query") for text in query or ()),
        headers=_headers(header or []),
    )

    async def use(client: Client) -> Result:
        return await run(client, call, as_json=as_json)

    finish(with_client(gateway, use))


async def run(client: Client, call: Call, *, as_json: bool) -> Result:
    """Make the call and print; the result holds the exit code only."""
    async with client.call(call) as reply:
        if reply.is_from_gateway:
            raise await _gateway_error(reply)
        error = await _print(reply, as_json=as_json)
    if error is None and reply.status >= 400:
        what = f"'{call.function.short}' answered {reply.status} {reply.reason}".rstrip()
        error = PlatformError(what, hint=reply.logs_hint if reply.status >= 500 else None)
    if error is not None:
        print_error(error)
        return Result(exit_code=FAILED)
    return Result()


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
        try:
            with open(data[1:], "rb") as file:  # noqa: PTH123  # a person's path, opened once
                return file.read()
        except OSError as failed:
            raise InvalidRequest(f"cannot read {data[1:]}: {failed.strerror}") from failed
    if data is not None:
        return data.encode("utf-8", "surrogateescape")
    # Nobody types a body into a terminal by accident: without -d there is none, and nothing hangs.
    if method.upper() in _WITHOUT_BODY or sys.stdin is None or sys.stdin.isatty():
        return b""
    return sys.stdin.buffer.read()


def _headers(texts: list[str]) -> tuple[tuple[str, str], ...]:
    headers = [_pair(text, ":", "--header") for text in texts]
    if not any(key.lower() == "content-type" for key, _ in headers):
        headers.append(("Content-Type", "text/plain"))
    return tuple(headers)


def _pair(text: str, mark: str, option: str) -> tuple[str, str]:
    key, found, value = text.partition(mark)
    if not found or not key.strip():
        raise InvalidRequest(f"{option} '{text}' is not of the form KEY{mark}VALUE")
    return key.strip(), value.strip()
