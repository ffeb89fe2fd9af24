"""The store of bundles, by digest, and of the image tags that point into it.

    <folder>/<digest>/tailrace.json, function/...     unpacked, read-only
    <folder>/tags/<sha256 of the image's text>.json   {"image": ..., "digest": ...}

Everything arrives under a temporary name and is renamed, so a crash leaves nothing half-written.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import AsyncIterable, Collection
from pathlib import Path
from typing import BinaryIO

import msgspec

from tailrace.build.bundle import bundle_requirements, read_manifest, unpack
from tailrace.build.images import check_image, is_shipped, pinned_digest, with_tag
from tailrace.errors import InvalidBundle, InvalidDeployment, NotFound, TooLarge
from tailrace.state import TEMPORARY, remove_tree, sync_folder, write_atomically

_DIGEST = re.compile(r"[0-9a-f]{64}")
# Written and hashed in one turn of a worker thread: about 2 ms of work, so the hop pays.
_BATCH = 1 << 20


class _Tag(msgspec.Struct):
    image: str
    digest: str


def is_digest(text: str) -> bool:
    """Whether text is a SHA-256 as 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


class BundleStore:
    """Bundles and tags in one folder, which must exist and be ours alone.

    Args:
        limit_bytes: Largest bundle, packed, and the largest sum of its files' sizes.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        # Between the look at a bundle's age and its removal nobody renews it.
        self._aging = threading.Lock()

    async def put(self, digest: str, chunks: AsyncIterable[bytes]) -> bool:
        """Take in a bundle as it arrives; True when it was not there before. Durable when it returns.

        The chunks are read to their end and checked also when the bundle is already there.

        Raises:
            InvalidBundle: digest is no SHA-256, the bytes have another one, `unpack` refuses them, or
                requirements.txt asks for what is not supported.
            TooLarge: over the limit; raised as soon as that is known.
        """
        if not is_digest(digest):
            raise InvalidBundle(f"'{digest[:80]}' is not a SHA-256 digest of 64 lower-case hex digits")
        handle, name = await asyncio.to_thread(tempfile.mkstemp, prefix=TEMPORARY, dir=self._folder)
        packed = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                found = await self._receive(file, chunks)
            if found != digest:
                raise InvalidBundle(f"bundle's bytes have the digest {found}, not {digest} as announced")
            return await asyncio.to_thread(self._unpack, packed, digest)
        finally:
            await asyncio.to_thread(packed.unlink, missing_ok=True)

    async def tag(self, image: str, digest: str, *, is_shipped_one: bool = False) -> None:
        """Let image mean this bundle from now on; durable when it returns.

        Args:
            is_shipped_one: The bundle came with the gateway; only those may have its names.
        Raises:
            NotFound: no such bundle.
            InvalidDeployment: image is no name of an image (`check_image`), names a digest, or is one that
                comes with the gateway.
        """
        self.path(digest)
        check_image(image)
        if is_shipped(image) and not is_shipped_one:
            raise InvalidDeployment(
                f"image '{image[:80]}' belongs to the functions that come with the gateway",
                hint="Choose a name that does not begin with 'tailrace-store/'.",
            )
        if pinned_digest(image):
            raise InvalidDeployment(
                f"image '{image[:80]}' names a digest; a tag is expected, such as name:1.0"
            )
        path = self._tag_path(image)
        await asyncio.to_thread(self._write_tag, path, msgspec.json.encode(_Tag(image, digest)))

    def resolve(self, image: str) -> str:
        """The digest that image means now: of its tag, ``latest`` when it has none, or the one it names.

        Raises:
            NotFound: nothing was built or uploaded under this image; the text says how to.
            InvalidDeployment: image is no name of an image (`check_image`).
        """
        check_image(image)
        digest = self._read_tag(self._tag_path(image)) if "@" not in image else pinned_digest(image)
        if digest is None or not is_digest(digest) or not self._renew(digest):
            raise NotFound(
                f"image '{image}' was not built for this gateway; it pulls from no registry",
                hint="Run: tailrace build -f stack.yaml (or: faas-cli up --remote-builder URL "
                "--payload-secret FILE); then deploy again.",
            )
        return digest

    def has(self, image: str, digest: str) -> bool:
        """Whether the image's tag means this very bundle, and it is there."""
        return self._read_tag(self._tag_path(image)) == digest and (self._folder / digest).is_dir()

    def path(self, digest: str) -> Path:
        """The folder that holds ``function/`` of this bundle.

        Raises:
            NotFound: no such bundle.
        """
        path = self._folder / digest
        if not is_digest(digest) or not path.is_dir():
            raise NotFound(f"bundle {digest[:64]} is not in the store", hint="Deploy the function again.")
        return path

    def lang(self, digest: str) -> str:
        """The template's name that the bundle was packed for.

        Raises:
            NotFound: no such bundle.
        """
        return read_manifest(self.path(digest)).lang

    async def prune(self, keep: Collection[str], *, min_age_s: float = 600.0) -> list[str]:
        """Remove bundles that no tag and no digest of keep refers to; the digests removed, sorted.

        Bundles stay that came, were put again or were asked for by `resolve` within min_age_s seconds: their
        tag or deployment may be on its way.
        """
        return await asyncio.to_thread(self._prune, frozenset(keep), time.time() - min_age_s)

    async def _receive(self, file: BinaryIO, chunks: AsyncIterable[bytes]) -> str:
        hasher = hashlib.sha256()
        left = self._limit_bytes
        batch = bytearray()
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise TooLarge(
                    f"bundle is over {self._limit_bytes:,} bytes",
                    hint="Move data out of the handler folder, or raise TAILRACE_BUNDLE_LIMIT.",
                )
            batch += chunk
            if len(batch) >= _BATCH:
                await asyncio.to_thread(_write_and_hash, file, hasher, bytes(batch))
                batch.clear()
        await asyncio.to_thread(_write_and_hash, file, hasher, bytes(batch))
        return hasher.hexdigest()

    def _unpack(self, packed: Path, digest: str) -> bool:
        final = self._folder / digest
        if self._renew(digest):
            return False
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self._folder))
        try:
            manifest = unpack(packed, temporary / "bundle", limit_bytes=self._limit_bytes)
            bundle_requirements(temporary / "bundle", manifest)
            try:
                (temporary / "bundle").rename(final)
            except OSError:
                if final.is_dir():  # the same bundle, uploaded twice at once: the other was first
                    return False
                raise
            final.chmod(0o555)
            sync_folder(self._folder)
            return True
        finally:
            remove_tree(temporary)

    def _tag_path(self, image: str) -> Path:
        name = hashlib.sha256(with_tag(image).encode()).hexdigest()
        return self._folder / "tags" / f"{name}.json"

    def _write_tag(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(path, data)

    def _read_tag(self, path: Path) -> str | None:
        try:
            digest = msgspec.json.decode(path.read_bytes(), type=_Tag).digest
        except (OSError, msgspec.MsgspecError):
            return None
        return digest if is_digest(digest) else None

    def _prune(self, keep: frozenset[str], born_before: float) -> list[str]:
        tags = self._folder / "tags"
        tagged = {self._read_tag(path) for path in tags.iterdir()} if tags.is_dir() else set()
        removed = []
        for path in sorted(self._folder.iterdir()):
            if not is_digest(path.name) or path.name in keep or path.name in tagged:
                continue
            with self._aging:
                if path.stat().st_ctime > born_before:
                    continue
                # Renamed first: a crash half-way must not leave half a bundle under its digest.
                path.chmod(0o700)
                leaving = path.rename(self._folder / f"{TEMPORARY}{path.name}")
            remove_tree(leaving)
            removed.append(path.name)
        return removed

    def _renew(self, digest: str) -> bool:
        """Whether the bundle is there; then it counts as young from now on."""
        with self._aging:
            try:
                os.utime(self._folder / digest)
            except FileNotFoundError:
                return False
        return True


def _write_and_hash(file: BinaryIO, hasher: hashlib._Hash, data: bytes) -> None:
    file.write(data)
    hasher.update(data)
