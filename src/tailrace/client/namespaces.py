"""Namespaces: make, list, look at, change, remove; and how many replicas a function in one has."""

from __future__ import annotations

import msgspec

from tailrace.client.connection import Connection, decode
from tailrace.names import FunctionName
from tailrace.wire import openfaas

# Without it OpenFaaS takes a namespace for none of its own; `faas-cli` sends it, too.
_MARK = {"openfaas": "1"}


class Namespaces(Connection):
    """The namespaces of a gateway."""

    async def list_namespaces(self) -> list[str]:
        """Their names, sorted."""
        return decode((await self.system("GET", "/system/namespaces")).body, list[str])

    async def create_namespace(self, name: str, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """Make a namespace.

        Raises:
            AlreadyExists: there is one of that name.
        """
        body = openfaas.FunctionNamespace(name, {**annotations, **_MARK}, {**labels, **_MARK})
        await self.system("POST", "/system/namespace/", body=msgspec.json.encode(body))

    async def get_namespace(self, name: str) -> openfaas.FunctionNamespace:
        """What is written about a namespace.

        Raises:
            NotFound: there is none of that name.
        """
        return decode(
            (await self.system("GET", f"/system/namespace/{name}")).body, openfaas.FunctionNamespace
        )

    async def update_namespace(self, name: str, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """Replace all that is written about a namespace.

        Raises:
            NotFound: there is none of that name.
        """
        body = openfaas.FunctionNamespace(name, {**annotations, **_MARK}, {**labels, **_MARK})
        await self.system("PUT", f"/system/namespace/{name}", body=msgspec.json.encode(body))

    async def remove_namespace(self, name: str) -> None:
        """Remove a namespace that holds nothing.

        Raises:
            NotFound: there is none of that name.
            InvalidRequest: it holds functions or secrets, or is the default one.
        """
        body = msgspec.json.encode(openfaas.FunctionNamespace(name, labels=_MARK))
        await self.system("DELETE", f"/system/namespace/{name}", body=body)

    async def scale_function(self, name: FunctionName, replicas: int) -> None:
        """Give a function so many replicas; at 0 its next call starts one.

        Raises:
            NotFound: it is not deployed.
        """
        wanted = openfaas.ScaleServiceRequest(replicas, name.name, name.namespace)
        await self.system("POST", f"/system/scale-function/{name.name}", body=msgspec.json.encode(wanted))
