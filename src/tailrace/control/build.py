"""``POST /build`` and ``GET /publickey``: OpenFaaS's remote builder, for functions that need no Docker.

Both answer who has the payload secret, not who has the admin's password, and without one are not there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.build.remote import Built, build, check_signature, receive
from tailrace.control.parts import Parts, UntilGone, json_reply, parts
from tailrace.errors import NotFound, PlatformError, TailraceError
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName
from tailrace.state import remove_tree, write_atomically
from tailrace.wire import openfaas

# faas-cli reads lines of less than 64 KiB.
LINE_LIMIT = 32 * 1024
SECRET_LIMIT = 4096
_NAME = re.compile(r"[^a-z0-9]+")


async def post(request: Request) -> Response:
    """Build a context: what is wrong with it is a 4xx, what happens then comes as lines of JSON."""
    here = parts(request)
    secret = await asyncio.to_thread(_secret, here)
    stack = contextlib.AsyncExitStack()
    try:
        await stack.enter_async_context(here.builds.place())
        folder = await asyncio.to_thread(here.bundles.workspace)
        stack.push_async_callback(asyncio.to_thread, remove_tree, folder)
        built = await _read(request, here, secret, folder)
    except BaseException:
        await stack.aclose()
        raise
    lines = _lines(here, built, stack)
    # Begun here, so that it is closed, and gives back what it holds, also when the client is gone already.
    first = await anext(lines)
    return UntilGone(_after(first, lines), media_type="application/x-ndjson")


async def _after(first: bytes, lines: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(lines):
        yield first
        async for line in lines:
            yield line


async def _read(request: Request, here: Parts, secret: bytes, folder: Path) -> Built:
    """Receive the tar and say what it is. Nothing of it is looked at before its signature was checked."""
    tar, limit = folder / "context.tar", here.settings.build_limit
    try:
        found = await receive(request.stream(), tar, secret, limit_bytes=limit)
        check_signature(found, request.headers.get("x-build-signature", ""))
        (folder / "files").mkdir()
        return await asyncio.to_thread(build, tar, folder / "files", limit_bytes=limit)
    finally:
        await asyncio.to_thread(tar.unlink, missing_ok=True)


async def _lines(here: Parts, built: Built, stack: contextlib.AsyncExitStack) -> AsyncGenerator[bytes, None]:
    """What happens, as faas-cli reads it; the last line says how it ended."""
    async with stack:
        name = FunctionName(
            _NAME.sub("-", built.image.lower().rpartition("/")[2].partition(":")[0]).strip("-")[:63]
        )
        yield _line(built, "in_progress", f"{built.image}: {built.meaning.words}")
        if built.had_secrets:
            yield _line(built, "in_progress", "build secrets are Docker's; they were dropped unread")
        try:
            digest, data = built.bundle.digest, built.bundle.data
            await here.bundles.put(digest, _once(data))
            await here.bundles.tag(built.image, digest)
            async for words in _prepared(here, FunctionSpec(name, built.image, digest)):
                yield _line(built, "in_progress", words)
            await here.prune([function.spec.bundle for function in here.table])
        except TailraceError as failed:
            yield _line(built, "failed", *failed.text.splitlines(), error=failed.message)
        else:
            yield _line(built, "success", f"{built.image} is ready: {built.bundle.digest[:12]}")
        finally:
            if here.table.get(name) is None:
                here.logs.forget(name)


async def _prepared(here: Parts, spec: FunctionSpec) -> AsyncIterator[str]:
    """Build its environment, so that the deployment that follows is quick; what is told meanwhile."""
    with here.logs.follow(spec.name) as follower:
        preparing = asyncio.ensure_future(here.provider.prepare(spec))
        try:
            while not preparing.done():
                telling = asyncio.ensure_future(anext(follower))
                await asyncio.wait((preparing, telling), return_when=asyncio.FIRST_COMPLETED)
                if telling.done() and telling.result().instance == "tailrace":
                    yield telling.result().text.rstrip("\n")
                telling.cancel()
            await preparing
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _line(built: Built, status: str, *words: str, error: str = "") -> bytes:
    log = [word[: LINE_LIMIT // 8] for word in words][:64]
    while sum(map(len, log)) > LINE_LIMIT // 2:
        log.pop(0)
    shown = openfaas.BuildResult(log=log, image=built.image, status=status, error=error[: LINE_LIMIT // 8])
    return msgspec.json.encode(shown) + b"\n"


async def get_public_key(request: Request) -> Response:
    """A key to seal build secrets with. They are Docker's, so what is sealed with it is dropped unread."""
    here = parts(request)
    await asyncio.to_thread(_secret, here)
    return json_reply(await asyncio.to_thread(_public_key, here.settings.state_dir / "build-key"))


def _secret(here: Parts) -> bytes:
    """The payload secret; read at each build, so that a new one counts at once."""
    path = here.settings.payload_secret_file
    if path is None:
        raise NotFound(
            "there is no builder here", hint="Start the gateway with --payload-secret-file FILE to have one."
        )
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_LIMIT + 1).strip()
    except OSError as failed:
        raise PlatformError(f"payload secret '{path}' cannot be read: {failed.strerror}") from failed
    if not 0 < len(secret) <= SECRET_LIMIT:
        raise PlatformError(f"payload secret '{path}' is empty or over {SECRET_LIMIT} bytes")
    return secret


def _public_key(path: Path) -> openfaas.PublicKey:
    from nacl.public import PrivateKey

    if not path.is_file():
        write_atomically(path, bytes(PrivateKey.generate()))
    public = bytes(PrivateKey(path.read_bytes()).public_key)
    return openfaas.PublicKey(
        key_id=hashlib.sha256(public).hexdigest()[:16],
        algorithm="nacl/box",
        public_key=base64.b64encode(public).decode(),
    )
