"""``/store/functions.json``: the functions that come with this gateway, in OpenFaaS's store format."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tailrace.build import shipped


async def get(_: Request) -> Response:
    return Response(shipped.catalogue(), media_type="application/json")
