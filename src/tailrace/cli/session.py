"""A command's conversation with a gateway: which one, with which credentials, about which function."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from tailrace.cli.credentials import find_authorization
from tailrace.cli.result import Result, as_usage, run_async
from tailrace.client import Client, open_client
from tailrace.errors import InvalidUsage
from tailrace.gateway_url import DEFAULT_GATEWAY, parse_gateway
from tailrace.names import FunctionName, parse_function_name


def with_client(gateway: str | None, use: Callable[[Client], Awaitable[Result]]) -> Result:
    """Run ``use`` with a client of the gateway, with the credentials saved for it."""

    async def work() -> Result:
        with as_usage():
            url, own = parse_gateway(gateway or DEFAULT_GATEWAY)
        async with open_client(url, authorization=own or find_authorization(url, os.environ)) as client:
            return await use(client)

    return run_async(work())


def chosen_gateway(option: str | None, of_stack: str) -> str | None:
    """The option, the stack file's gateway unless it is only the default, the variable.

    Raises:
        InvalidRequest: the stack file's is no URL.
    Source: contract 1.4.
    """
    named = "" if of_stack.rstrip("/") == DEFAULT_GATEWAY else of_stack
    if named and not option:
        parse_gateway(named)  # no mistake of the command line
    return option or named or os.environ.get("OPENFAAS_URL")


def function_name(text: str, namespace: str = "") -> FunctionName:
    """The function a person means.

    Raises:
        InvalidUsage: it is no legal name, or names two namespaces.
    """
    name = parse_function_name(text)
    if name is None:
        raise InvalidUsage(f"'{text}' is no function name", hint="Write NAME or NAME.NAMESPACE.")
    if not namespace or namespace == name.namespace:
        return name
    if "." in text:
        raise InvalidUsage(f"'{text}' and --namespace {namespace} name two namespaces")
    return FunctionName(name.name, namespace)
