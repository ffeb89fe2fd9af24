"""Secrets: names come out, values only go in."""

from __future__ import annotations

import base64

import msgspec

from tailrace.client.connection import Connection, decode
from tailrace.errors import NotFound
from tailrace.wire import openfaas


class Secrets(Connection):
    """The secrets of a gateway."""

    async def list_secrets(self, namespace: str = "") -> list[str]:
        """The names of a namespace's secrets."""
        return [secret.name for secret in await self.list_secrets_used(namespace)]

    async def list_secrets_used(self, namespace: str = "") -> list[openfaas.Secret]:
        """A namespace's secrets, each with the functions that refer to it; OpenFaaS tells of none."""
        query = {"namespace": namespace} if namespace else {}
        reply = await self.system("GET", "/system/secrets", query=query)
        return decode(reply.body, list[openfaas.Secret])

    async def create_secret(self, name: str, value: bytes, *, namespace: str = "") -> None:
        """Create a secret.

        Raises:
            AlreadyExists: there is one of that name.
        """
        await self.system("POST", "/system/secrets", body=_secret(name, namespace, value))

    async def update_secret(self, name: str, value: bytes, *, namespace: str = "") -> None:
        """Replace a secret's value.

        Raises:
            NotFound: there is none of that name.
        """
        await self.system("PUT", "/system/secrets", body=_secret(name, namespace, value))

    async def put_secret(self, name: str, value: bytes, *, namespace: str = "") -> None:
        """Create a secret, or replace it."""
        body = _secret(name, namespace, value)
        try:
            await self.system("PUT", "/system/secrets", body=body)
        except NotFound:
            await self.system("POST", "/system/secrets", body=body)

    async def remove_secret(self, name: str, *, namespace: str = "") -> None:
        """Remove a secret that no function uses.

        Raises:
            NotFound: there is none of that name.
        """
        await self.system("DELETE", "/system/secrets", body=_secret(name, namespace, b""))


def _secret(name: str, namespace: str, value: bytes) -> bytes:
    raw = base64.b64encode(value).decode()
    return msgspec.json.encode(openfaas.Secret(name=name, namespace=namespace, raw_value=raw))
