"""Functions: deploy, list, describe, remove; and the bundles that hold their code."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tailrace.client.connection import Connection, decode
from tailrace.errors import NotFound
from tailrace.names import FunctionName
from tailrace.wire import openfaas

# The longest wait the gateway grants in one request is 55 s.
WAIT_S = 50.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a deploy answered: the revision to wait for, and whether the function is new."""

    revision: str
    is_new: bool


class _Image(msgspec.Struct):
    digest: str


class Functions(Connection):
    """The functions of a gateway."""

    def function_url(self, name: FunctionName) -> str:
        """Where the function is called."""
        return f"{self.url}/function/{name.short}"

    async def info(self) -> openfaas.GatewayInfo:
        """Versions of the gateway and its provider."""
        return decode((await self.system("GET", "/system/info")).body, openfaas.GatewayInfo)

    async def list_functions(self, namespace: str = "") -> list[openfaas.FunctionStatus]:
        """The functions of a namespace, the default one when empty."""
        query = {"namespace": namespace} if namespace else {}
        reply = await self.system("GET", "/system/functions", query=query)
        return decode(reply.body, list[openfaas.FunctionStatus])

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
            reply = await self.system("GET", f"/system/function/{name.name}", query=query)
        except NotFound as missing:
            message = missing.message or f"function '{name.short}' is not deployed"
            raise NotFound(message, hint=missing.hint) from None
        return decode(reply.body, openfaas.FunctionStatus)

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
            reply = await self.system("PUT", "/system/functions", body=body)
            is_new = False
        except NotFound:
            reply = await self.system("POST", "/system/functions", body=body)
            is_new = True
        return Deployed(reply.revision, is_new)

    async def remove_function(self, name: FunctionName) -> None:
        """Stop the function and forget it.

        Raises:
            NotFound: it is not deployed.
        """
        wanted = openfaas.DeleteFunctionRequest(function_name=name.name, namespace=name.namespace)
        query = {"namespace": name.namespace}
        await self.system("DELETE", "/system/functions", query=query, body=msgspec.json.encode(wanted))

    async def upload_bundle(self, digest: str, image: str, data: bytes) -> None:
        """Store a packed handler folder and make the image tag mean it."""
        kind = "application/octet-stream"
        path = f"/system/bundles/{digest}"
        await self.system("PUT", path, query={"image": image}, body=data, content_type=kind)

    async def find_image(self, image: str) -> str:
        """The digest of what the image means on this gateway.

        Raises:
            NotFound: nothing was built under it.
        """
        reply = await self.system("GET", "/system/bundles", query={"image": image})
        return decode(reply.body, _Image).digest
