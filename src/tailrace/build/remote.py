"""The remote builder: a signed tar with a build context becomes a bundle that an image's tag means.

Source: contract 1.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tailrace.build.bundle import MAX_FILES, Bundle, check_name, write_member
from tailrace.build.context import Meaning, read_context
from tailrace.build.tar import read_members
from tailrace.errors import InvalidBundle, NotAuthenticated, QueueFull, TooLarge

CONFIG = "com.openfaas.docker.config"
SECRETS = "com.openfaas.secrets"
CONTEXT = "context"
_CONFIG_LIMIT = 64 * 1024
_SECRETS_LIMIT = 1024 * 1024
_READ_BYTES = 1 << 20


# A build takes a core; more wait, and one that would be too many is refused.
AT_ONCE = 2
WAITING = 16


class Builds:
    """How many builds run and wait."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE)
        self.count = 0

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for one build. Raises QueueFull: too many wait already."""
        if self.count >= AT_ONCE + WAITING:
            raise QueueFull(f"{self.count} builds run or wait", hint="Try again when they are done.")
        self.count += 1
        try:
            async with self.places:
                yield
        finally:
            self.count -= 1


class BuildConfig(msgspec.Struct):
    """What the build is for. Arguments and platforms are Docker's, and have no meaning here."""

    image: str
    build_args: dict[str, str] | None = msgspec.field(default=None, name="buildArgs")
    platforms: list[str] | None = None
    skip_push: bool = msgspec.field(default=False, name="skipPush")


@dataclass(frozen=True, slots=True)
class Built:
    """A context that was read; ``had_secrets``: sealed build secrets came with it."""

    image: str
    meaning: Meaning
    bundle: Bundle
    had_secrets: bool


def check_signature(found: str, header: str) -> None:
    """Compare the HMAC of a body (hexadecimal) with ``X-Build-Signature``.

    Raises:
        NotAuthenticated: they differ, or the header is none.
    """
    kind, equals, given = header.partition("=")
    is_same = hmac.compare_digest(found.encode(), given.strip().lower().encode("utf-8", "replace"))
    if not equals or kind.strip().lower() != "sha256" or not is_same:
        raise NotAuthenticated(
            "X-Build-Signature is not sha256= with the HMAC of the body by the payload secret",
            hint="Give faas-cli the same secret: --payload-secret FILE.",
        )


async def receive(chunks: AsyncIterable[bytes], path: Path, secret: bytes, *, limit_bytes: int) -> str:
    """Write a body to a file as it comes; its HMAC in hexadecimal.

    Raises:
        TooLarge: over the limit; raised as soon as that is known.
    """
    signer = hmac.new(secret, digestmod=hashlib.sha256)
    left = limit_bytes
    with await asyncio.to_thread(path.open, "wb") as file:
        batch = bytearray()

        def write(data: bytes) -> None:
            signer.update(data)
            file.write(data)

        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise TooLarge(f"the build's tar is over {limit_bytes:,} bytes")
            batch += chunk
            if len(batch) >= _READ_BYTES:
                await asyncio.to_thread(write, bytes(batch))
                batch.clear()
        await asyncio.to_thread(write, bytes(batch))
    return signer.hexdigest()


def build(tar: Path, folder: Path, *, limit_bytes: int) -> Built:
    """Read the tar into folder, which must be empty, and pack what the context means. Blocking.

    Raises:
        InvalidBundle: the tar holds what is not expected, or nothing here can run the context.
        TooLarge: its files have over limit_bytes together.
    """
    config, had_secrets = _unpack(tar, folder, limit_bytes=limit_bytes)
    meaning = read_context(folder / CONTEXT)
    return Built(config.image, meaning, meaning.pack(limit_bytes=limit_bytes), had_secrets)


def _unpack(tar: Path, folder: Path, *, limit_bytes: int) -> tuple[BuildConfig, bool]:
    config: BuildConfig | None = None
    had_secrets = False
    seen: set[str] = set()
    left = limit_bytes
    with tar.open("rb") as file:
        for member in read_members(file):
            path = member.path.removeprefix("./").rstrip("/")
            check_name(path)
            if len(seen) > MAX_FILES or (path in seen and not member.is_folder):
                raise InvalidBundle(f"the tar holds '{path}' twice, or over {MAX_FILES:,} files")
            seen.add(path)
            left -= member.size
            if left < 0:
                raise TooLarge(f"the build context is over {limit_bytes:,} bytes (at '{path}')")
            if path == CONFIG:
                config = _read_config(file.read(_checked(path, member.size, _CONFIG_LIMIT)))
            elif path == SECRETS:
                file.read(_checked(path, member.size, _SECRETS_LIMIT))
                had_secrets = True
            elif path == CONTEXT or path.startswith(f"{CONTEXT}/"):
                write_member(folder, path, member, file)
            else:
                raise InvalidBundle(
                    f"the tar holds '{path}'; only {CONTEXT}/, {CONFIG} and {SECRETS} belong in it"
                )
    if config is None or not (folder / CONTEXT).is_dir():
        raise InvalidBundle(f"the tar is expected to hold {CONTEXT}/ and {CONFIG}")
    return config, had_secrets


def _checked(path: str, size: int, limit: int) -> int:
    if size > limit:
        raise InvalidBundle(f"'{path}' has {size:,} bytes; at most {limit:,} are read")
    return size


def _read_config(data: bytes) -> BuildConfig:
    try:
        config = msgspec.json.decode(data, type=BuildConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as failed:
        raise InvalidBundle(f"{CONFIG} is not what is expected: {failed}") from failed
    if not config.image or len(config.image) > 512 or not config.image.isprintable():
        raise InvalidBundle(f"{CONFIG} names no image")
    return config
