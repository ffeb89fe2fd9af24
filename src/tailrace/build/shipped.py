"""The store's own functions: images that a gateway has without anybody building them.

``tailrace/store/functions.json`` lists them in OpenFaaS's store format, with one key more, ``lang``; each
has its handler folder beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import cache
from pathlib import Path

import msgspec

from tailrace.build.bundle import Bundle, pack_folder
from tailrace.build.images import is_shipped, with_tag
from tailrace.build.store import BundleStore
from tailrace.wire.openfaas import Store, StoreFunction

_FOLDER = Path(__file__).resolve().parent.parent / "store"
_LIMIT_BYTES = 1024 * 1024


@cache
def catalogue() -> bytes:
    """``functions.json`` as it is served."""
    return (_FOLDER / "functions.json").read_bytes()


async def provide(image: str, bundles: BundleStore) -> None:
    """Put the bundle that a shipped image means into the store, under its tag; nothing for other images."""
    if not is_shipped(image):
        return
    entry = _entries().get(with_tag(image))
    if entry is None:
        return
    bundle = await asyncio.to_thread(_packed, entry.name, entry.lang)
    if bundles.has(image, bundle.digest):
        return
    await bundles.put(bundle.digest, _whole(bundle.data))
    await bundles.tag(image, bundle.digest, is_shipped_one=True)


@cache
def _entries() -> Mapping[str, StoreFunction]:
    found = msgspec.json.decode(catalogue(), type=Store)
    return {image: entry for entry in found.functions for image in entry.images.values()}


@cache
def _packed(name: str, lang: str) -> Bundle:
    return pack_folder(_FOLDER / name, lang=lang, limit_bytes=_LIMIT_BYTES)


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
