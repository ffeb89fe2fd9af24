"""``/system/scale-function/NAME``: how many replicas a function has from now on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.parts import function_of, parts, read_json
from tailrace.wire import openfaas


async def post(request: Request) -> Response:
    """Set the count. At 0 the function stays deployed, and its next call starts a replica."""
    wanted = await read_json(request, openfaas.ScaleServiceRequest)
    function = function_of(request, wanted.namespace)
    await parts(request).reconciler.scale(function.name, wanted.replicas)
    return Response(status_code=202)
