"""``/system/bundles``: a handler folder arrives and an image tag comes to mean it; what a tag means."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.build import shipped
from tailrace.build.images import check_image, with_tag
from tailrace.control.parts import Parts, json_reply, parts
from tailrace.errors import InvalidRequest, UnsupportedContent

_TYPES = ("", "application/octet-stream", "application/x-tar")


class Image(msgspec.Struct):
    """What an image means now: the SHA-256 of a bundle."""

    image: str
    digest: str


async def get(request: Request) -> Response:
    """What ``?image=`` means; 404 when nothing was built under it."""
    image = _image(request)
    digest = await digest_of(parts(request), image)
    return json_reply(Image(with_tag(image), digest))


async def put(request: Request) -> Response:
    """Store a bundle and tag it with ``?image=``: 201 when it is new, 200 when it was there."""
    image = _image(request)
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


async def digest_of(here: Parts, image: str) -> str:
    """The digest that an image means now; the store's own functions are put there when they are asked for.

    Raises:
        NotFound, InvalidDeployment: as `BundleStore.resolve` has it.
    """
    await shipped.provide(image, here.bundles)
    return await asyncio.to_thread(here.bundles.resolve, image)


def _image(request: Request) -> str:
    image = request.query_params.get("image", "")
    if not image:
        raise InvalidRequest("the query parameter 'image' is missing; expected the tag of a bundle")
    check_image(image)
    return image
