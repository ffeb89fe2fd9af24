"""``tailrace login``: keep the password of a gateway that asks for one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish, run_async
from tailrace.errors import InvalidRequest, NotAuthenticated

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    gateway: Gateway = None,
    username: Annotated[str, typer.Option("--username", "-u", help="The user.")] = "admin",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", "-s", help="Read it from stdin.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a gateway's password and keep it in ~/.openfaas/config.yml, where faas-cli finds it too.

    \b
    Examples:
      tailrace login --gateway https://fn.example.com
      tailrace login -g https://fn.example.com --password-stdin < password.txt
    """
    from tailrace.cli.credentials import save_basic
    from tailrace.cli.prompts import ask_hidden
    from tailrace.client import open_client
    from tailrace.gateway_url import DEFAULT_GATEWAY, basic, parse_gateway

    if password_stdin or not sys.stdin.isatty():
        password = _decode(sys.stdin.buffer.read(4096)).strip()
    else:
        password = ask_hidden("Password")
    if not password:
        raise InvalidRequest(
            "no password was given", hint="Type it on a terminal, or: tailrace login -s < FILE"
        )
    url, _ = parse_gateway(gateway or DEFAULT_GATEWAY)
    authorization = basic(username, password)

    async def check(client: Client) -> None:
        try:
            await client.list_functions()
        except NotAuthenticated:
            raise NotAuthenticated(f"the gateway at {url} does not take this user and password") from None

    async def work() -> Result:
        async with open_client(url, authorization=authorization) as client:
            await check(client)
        path = save_basic(url, authorization, os.environ)
        return Result(f"saved for {url} in {path}", {"gateway": url, "file": str(path)})

    finish(run_async(work()), as_json=as_json)


def _decode(given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the password on stdin is not UTF-8") from None
