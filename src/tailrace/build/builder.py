"""The remote builder: a signed build context becomes a bundle with a tag, and its environment is built.

What arrives lies in a folder of its own until the build is over, however that ends; a bundle is tagged last,
so an image is either the old one or the whole new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from tailrace.addresses import household
from tailrace.build.bundle import Bundle, folder_requirements, note_left_out, pack_folder
from tailrace.build.context import Context, read_context
from tailrace.build.environment import Tell
from tailrace.build.images import with_tag
from tailrace.build.indexes import PackageIndex, find_index
from tailrace.build.layout import make_copies
from tailrace.build.pace import Pace, Turns
from tailrace.build.requirements import Requirements
from tailrace.build.sealed import BoxKey
from tailrace.build.store import BundleStore
from tailrace.build.upload import CONTEXT, Upload, unpack_upload
from tailrace.errors import NotAuthenticated, PlatformError, QueueFull, TooLarge
from tailrace.state import TEMPORARY, remove_tree

_T = TypeVar("_T")
# Packing and installing keep a core busy each.
BUILDS_AT_ONCE = 2
# Uploads, waiting and running builds together; each may have two files of the bundle limit on the disk.
PLACES = 10
SECRET_BYTES = 16
_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})")
_BATCH = 1 << 20
_LINES_HELD = 1000


class Install(Protocol):
    """Builds the environment of a function; `ProcessProvider.install` is one."""

    async def __call__(
        self,
        requirements: Requirements,
        *,
        is_process: bool,
        name: str,
        tell: Tell,
        show: Tell,
        index: PackageIndex | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Built:
    """An image that is there now."""

    image: str
    digest: str


class Builder:
    """Builds what is signed with the secret.

    Args:
        folder: Ours alone; what lies in it belongs to builds that run.
        secret: Tells what both sides know; asked for each build, so that a new one counts at once.
        limit_bytes: Largest upload, and the largest sum of the context's files.
        pace: How fast uploads have to come.
        turns: How many of one address come at once.
        bundle_limit_bytes: Largest bundle.
    """

    def __init__(
        self, folder: Path, *, bundles: BundleStore, install: Install, key: BoxKey,
        secret: Callable[[], bytes], limit_bytes: int, bundle_limit_bytes: int,
        pace: Pace | None = None, turns: Turns | None = None,
    ) -> None:  # fmt: skip
        self.key = key
        self._folder = folder
        self._bundles = bundles
        self._install = install
        self._secret = secret
        self._limit_bytes = limit_bytes
        self._bundle_limit_bytes = bundle_limit_bytes
        self._pace = pace or Pace()
        self._turns = turns or Turns()
        self._taken = 0
        self._free = asyncio.Semaphore(BUILDS_AT_ONCE)

    @contextlib.asynccontextmanager
    async def receiving(
        self, chunks: AsyncIterable[bytes], signature: str, address: str = ""
    ) -> AsyncIterator[Job]:
        """What a client sends, checked and unpacked; gone from the disk when the context is left.

        Args:
            address: Whose it is as long as nothing is known of the signature.
            signature: ``sha256=`` and the hex HMAC-SHA256 of the bytes; nothing is unpacked before it fits.
        Raises:
            NotAuthenticated: it is missing, malformed or wrong.
            InvalidBundle, TooLarge: the tar is refused.
            QueueFull: too many builds are under way, or too many uploads from this address.
            ReadTimeout: it comes too slowly.
        """
        matched = _SIGNATURE.fullmatch(signature)
        if matched is None:
            found = "cannot be read" if signature else "is missing"
            raise NotAuthenticated(
                f"X-Build-Signature {found}; expected sha256=HEX, the body's HMAC by the payload secret"
            )
        async with contextlib.AsyncExitStack() as turn:
            await turn.enter_async_context(self._turns.take(household(address)))
            if self._taken >= PLACES:
                raise QueueFull(f"{PLACES} builds are under way", hint="Try again when one has ended.")
            self._taken += 1
            try:
                folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=TEMPORARY, dir=self._folder))
                try:
                    tar = folder / "upload.tar"
                    await self._receive(tar, chunks, bytes.fromhex(matched[1]))
                    await turn.aclose()  # it knows the secret: its build takes nobody's turn
                    unpack = partial(unpack_upload, tar, folder / "upload", limit_bytes=self._limit_bytes)
                    upload = await _in_thread(unpack)
                    yield Job(self, folder / "upload" / CONTEXT, upload)
                finally:
                    await _in_thread(partial(remove_tree, folder))
            finally:
                self._taken -= 1

    async def _receive(self, tar: Path, chunks: AsyncIterable[bytes], signature: bytes) -> None:
        signer = hmac.new(await _in_thread(self._secret), digestmod=hashlib.sha256)
        left = self._limit_bytes
        batch = bytearray()
        with tar.open("xb") as file:
            async with contextlib.aclosing(self._pace.hold(chunks)) as coming:
                async for chunk in coming:
                    left -= len(chunk)
                    if left < 0:
                        raise TooLarge(
                            f"the build context is over {self._limit_bytes:,} bytes",
                            hint="Move data out of it, or raise TAILRACE_BUILD_LIMIT on the gateway.",
                        )
                    batch += chunk
                    if len(batch) >= _BATCH:
                        await _in_thread(partial(_write_and_sign, file, signer, bytes(batch)))
                        batch.clear()
            await _in_thread(partial(_write_and_sign, file, signer, bytes(batch)))
        if not hmac.compare_digest(signer.digest(), signature):
            raise NotAuthenticated("X-Build-Signature is not the body's: another payload secret was used")

    async def build(self, job: Job, tell: Tell) -> Built:
        """Build what was received.

        Args:
            tell: Takes lines of progress, without newlines.
        Raises:
            TailraceError: it cannot be built; the text is for the function's author.
        """
        if self._free.locked():
            tell(f"waiting: {BUILDS_AT_ONCE} builds are running")
        async with self._free:
            began = time.monotonic()
            image = with_tag(job.upload.config.image)
            index = await self._open_secrets(job.upload, tell)
            context = await _in_thread(
                partial(read_context, job.folder, arguments=job.upload.config.build_args)
            )
            for note in (*context.notes, *await _in_thread(partial(note_left_out, context.folder))):
                tell(note)
            _tell_missing_program(context, tell)
            pack = partial(_pack, context, index, limit_bytes=self._bundle_limit_bytes)
            bundle, requirements = await _in_thread(pack)
            if context.process is None or context.process.requirements:
                await self._install(
                    requirements, is_process=context.process is not None, name=_short_name(image),
                    tell=tell, show=tell, index=index,
                )  # fmt: skip
            await _to_its_end(self._keep(bundle, image))
            tell(f"{image} is sha256:{bundle.digest}, built in {time.monotonic() - began:.1f} s")
            return Built(image, bundle.digest)

    async def _open_secrets(self, upload: Upload, tell: Tell) -> PackageIndex | None:
        if not upload.sealed_secrets:
            return None
        # Seconds, where somebody fills the limit with YAML: nobody's stream waits for that.
        secrets = await _in_thread(partial(self.key.unseal, upload.sealed_secrets))
        found, unused = find_index(secrets, self.key.private)
        if found:
            tell("packages come from the index that a build secret names")
        if unused:
            tell(
                f"build secrets that are not used: {', '.join(unused)[:300]}. Without Docker they can only "
                "name a package index: pip.conf, pip_index_url or pip_extra_index_url"
            )
        return found

    async def _keep(self, bundle: Bundle, image: str) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(bundle.data), _BATCH):
                yield bundle.data[at : at + _BATCH]

        await self._bundles.put(bundle.digest, pieces())
        await self._bundles.tag(image, bundle.digest)


@dataclass(frozen=True, slots=True)
class Job:
    """What was received, and its build."""

    builder: Builder
    folder: Path
    upload: Upload

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Progress]:
        """The build, running until the context is left, which cancels it."""
        progress = Progress()
        task = asyncio.create_task(self.builder.build(self, progress.add), name="remote build")
        task.add_done_callback(lambda _: progress.changed.set())
        progress.task = task
        try:
            yield progress
        finally:
            task.cancel()
            await asyncio.wait([task])


@dataclass(slots=True)
class Progress:
    """Lines of a build that runs. At most 1,000 are held for a reader that is slow; more are dropped."""

    task: asyncio.Task[Built] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        if len(self._lines) < _LINES_HELD:
            self._lines.append(line)
        elif len(self._lines) == _LINES_HELD:
            self._lines.append("(lines are left out: they come faster than they are read)")
        self.changed.set()

    async def take(self, timeout_s: float) -> list[str]:
        """The lines since the last time; waits for some, or for the build's end, at most timeout_s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.changed.wait()
        self.changed.clear()
        lines, self._lines = self._lines, []
        return lines

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done() and not self._lines


def read_payload_secret(path: Path) -> bytes:
    """The secret in the file, without white space around it, as faas-cli takes it.

    Raises:
        PlatformError: the file cannot be read, or holds under 16 bytes.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as failed:
        raise PlatformError(f"payload secret '{path}' cannot be read: {failed.strerror}") from failed
    if len(secret) < SECRET_BYTES:
        raise PlatformError(
            f"payload secret '{path}' holds {len(secret)} bytes; at least {SECRET_BYTES} are expected",
            hint=f"Make one: openssl rand -hex 32 > {path}",
        )
    return secret


def _pack(context: Context, index: PackageIndex | None, *, limit_bytes: int) -> tuple[Bundle, Requirements]:
    name = index.name if index else ""
    make_copies(context.folder, context.copies, limit_bytes=limit_bytes)
    requirements = folder_requirements(context.folder, context.process, index=name)
    if not requirements.lines:  # nothing comes from the index
        name, requirements = "", Requirements(())
    bundle = pack_folder(
        context.folder, lang=context.lang, limit_bytes=limit_bytes, process=context.process, index=name
    )
    return bundle, requirements


def _tell_missing_program(context: Context, tell: Tell) -> None:
    process = context.process
    if process is None or process.requirements or not process.fprocess:
        return
    program = process.fprocess.split(" ")[0]
    if "/" not in program and shutil.which(program) is None:
        tell(f"program '{program}' is not in the gateway's PATH: install it there before the function starts")


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await _to_its_end(asyncio.to_thread(work))


async def _to_its_end(work: Coroutine[object, object, _T]) -> _T:
    """The work's result; a cancelled caller waits for its end, so nothing that it uses is gone under it."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _short_name(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[0]


def _write_and_sign(file: BinaryIO, signer: hmac.HMAC, data: bytes) -> None:
    file.write(data)
    signer.update(data)
