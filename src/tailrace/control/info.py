"""``/system/info`` and ``/healthz``."""

from __future__ import annotations

import platform

from starlette.requests import Request
from starlette.responses import Response

import tailrace
from tailrace.control.parts import json_reply, parts
from tailrace.wire import openfaas


async def get_info(request: Request) -> Response:
    version = openfaas.VersionInfo(release=tailrace.__version__, sha="")
    provider = openfaas.ProviderInfo(parts(request).provider.name, "tailrace", version)
    return json_reply(openfaas.GatewayInfo(provider, version, platform.machine()))


async def get_health(_: Request) -> Response:
    return Response(status_code=200)
