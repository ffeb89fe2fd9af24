"""``PUT /system/bundles/<sha256>``: a handler folder arrives, and an image tag comes to mean it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.parts import parts
from tailrace.errors import InvalidRequest, UnsupportedContent

_TYPES = ("", "application/octet-stream", "application/x-tar")


async def put(request: Request) -> Response:
    """Store a bundle and tag it with ``?image=``: 201 when it is new, 200 when it was there."""
    image = request.query_params.get("image", "")
    if not image:
        raise InvalidRequest("the query parameter 'image' is missing; expected the tag the bundle is for")
    # A web page cannot send these types without a preflight, which nobody here answers.
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _TYPES:
        raise UnsupportedContent(
            f"expected Content-Type application/octet-stream, got '{content_type[:100]}'"
        )
    here = parts(request)
    digest = request.path_params["digest"]
    is_new = await here.bundles.put(digest, request.stream())
    await here.bundles.tag(image, digest)
    await here.prune([function.spec.bundle for function in here.table])
    return Response(status_code=201 if is_new else 200)
