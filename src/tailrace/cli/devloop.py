"""The loop behind ``tailrace up``: make the gateway's functions equal the stack file's, at every save."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tailrace.cli.logview import LogView, piece_of
from tailrace.cli.result import error_for
from tailrace.cli.rollout import Outcome, Package, pack, send, wait_outcome
from tailrace.cli.secretvalue import take_value
from tailrace.cli.stackfile import Stack, StackFunction
from tailrace.cli.startlines import StartLines
from tailrace.cli.terminal import Paint, plain
from tailrace.cli.watch import Saves, watching
from tailrace.client import Client
from tailrace.errors import InvalidDeployment, TailraceError
from tailrace.names import FunctionName

SECRETS_FOLDER = ".secrets"
# A traceback's end says what is wrong; the whole is in the log.
_ERROR_LINES = 12


@dataclass(frozen=True, slots=True)
class Extras:
    """What functions get unless the project has its own: environment, and secrets by name."""

    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Screen:
    """Where it is told: the view, its colours, and the filter of what a starting replica writes."""

    view: LogView
    paint: Paint
    start_lines: StartLines


class DevLoop:
    """Deploys what changed, removes what is gone, and tells about it in the view.

    Args:
        read: Reads the stack file; its errors are told and leave everything as it is.
        limit_bytes: Largest packed handler folder.
    """

    def __init__(
        self,
        client: Client,
        screen: Screen,
        *,
        read: Callable[[], tuple[Stack, tuple[StackFunction, ...]]],
        extras: Extras,
        limit_bytes: int,
    ) -> None:
        self._client = client
        self._view = screen.view
        self._paint = screen.paint
        self._start_lines = screen.start_lines
        self._read = read
        self._extras = extras
        self._limit_bytes = limit_bytes
        self._sent: dict[FunctionName, bytes] = {}
        self._known: set[FunctionName] = set()
        self._secrets: dict[tuple[str, str], bytes] = {}
        self._waits: dict[FunctionName, asyncio.Task[None]] = {}
        self._notes: set[str] = set()

    async def run(self) -> None:
        """Deploy everything, then follow saves without end.

        Raises:
            TailraceError: the stack file cannot be read at the start.
        """
        saves = Saves()
        stack, functions = await asyncio.to_thread(self._read)
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while True:
                watched = _watched(stack, functions)
                async with watching(saves, folders=watched[0], files=watched[1]):
                    await self._reconcile(stack, functions, begin, group)
                    was_broken = False
                    while True:
                        begin = await saves.wait()
                        read = await self._reread(stack)
                        if read is None:
                            was_broken = True  # a watched folder may be gone: watch anew once it is mended
                            continue
                        stack, functions = read
                        if was_broken or watched != _watched(stack, functions):
                            break
                        await self._reconcile(stack, functions, begin, group)

    async def _reread(self, stack: Stack) -> tuple[Stack, tuple[StackFunction, ...]] | None:
        try:
            return await asyncio.to_thread(self._read)
        except (TailraceError, OSError, RuntimeError) as bad:
            told = error_for(bad)
            if told is None:
                raise
            self._fail(stack.path.name, f"{told.text}\nwhat was deployed before stays")
            return None

    async def _reconcile(
        self, stack: Stack, functions: tuple[StackFunction, ...], begin: float, group: asyncio.TaskGroup
    ) -> None:
        for note in stack.notes_on(functions):
            if note not in self._notes:
                self._notes.add(note)
                self._view.say("tailrace", self._paint.dim(f"note: {plain(note)}"))
        for function in functions:
            self._view.add_label(function.name.short)
        for function in functions:
            try:
                await self._bring(stack.path.parent, function, begin, group)
            except TailraceError as failed:
                self._fail(function.name.short, failed.text)
        # Also one that has not answered yet.
        for name in [name for name in self._sent if name not in {f.name for f in functions}]:
            await self._remove(name)

    async def _bring(
        self, folder: Path, function: StackFunction, begin: float, group: asyncio.TaskGroup
    ) -> None:
        """Send the function if anything of it changed, and have its outcome told."""
        package = await asyncio.to_thread(
            pack, function, limit_bytes=self._limit_bytes, extra_env=self._extras.env
        )
        for note in package.notes:
            if note not in self._notes:
                self._notes.add(note)
                self._view.say(function.name.short, self._paint.dim(f"note: {plain(note)}"))
        await self._put_secrets(folder, function)
        if self._sent.get(function.name) == package.fingerprint:
            return
        self._start_lines.begin(function.name)
        revision = await send(self._client, package)
        self._sent[function.name] = package.fingerprint
        if earlier := self._waits.pop(function.name, None):
            earlier.cancel()
        self._waits[function.name] = group.create_task(self._tell(package, revision, begin))

    async def _tell(self, package: Package, revision: str, begin: float) -> None:
        name = package.function.name
        try:
            outcome = await wait_outcome(self._client, package, revision)
        except TailraceError as failed:
            outcome = Outcome(is_ready=False, error=failed.text)
        took_s = time.monotonic() - begin
        if outcome.is_replaced:
            return
        for line in self._start_lines.settle(name, is_ready=outcome.is_ready):
            self._view.show(piece_of(line))
        if outcome.is_ready:
            self._say_ready(name, took_s, outcome)
            self._known.add(name)
            return
        serving = "the old code still serves" if outcome.serves_old else "nothing serves until it is mended"
        self._fail(name.short, f"{outcome.error}\n{serving}; mend it and save")
        self._known.add(name)

    def _say_ready(self, name: FunctionName, took_s: float, outcome: Outcome) -> None:
        import_s = f"(import {outcome.import_s:.2f} s)"
        if name in self._known:
            answers = self._paint.green(f"new code answers after {took_s:.2f} s")
            self._view.say(name.short, f"{answers} {import_s}")
            return
        url = self._client.function_url(name)
        ready = self._paint.green(f"ready in {took_s:.2f} s")
        self._view.say(
            name.short, f"{ready} {import_s}  {self._paint.bold(url)}\ntry: curl -N {url} -d hello"
        )

    def _fail(self, label: str, text: str) -> None:
        lines = [self._paint.clean(line) for line in text.rstrip().split("\n")]
        shown = lines if len(lines) <= _ERROR_LINES else [lines[0], "...", *lines[-_ERROR_LINES:]]
        self._view.say(label, "\n".join([self._paint.red(f"failed: {shown[0]}"), *shown[1:]]))

    async def _remove(self, name: FunctionName) -> None:
        if earlier := self._waits.pop(name, None):
            earlier.cancel()
        self._known.discard(name)
        self._sent.pop(name, None)
        try:
            await self._client.remove_function(name)
        except TailraceError as failed:
            self._fail(name.short, failed.text)
        else:
            self._view.say(name.short, "removed")

    async def _put_secrets(self, folder: Path, function: StackFunction) -> None:
        for secret in function.secrets:
            value = read_secret(folder, secret, self._extras.secrets)
            key = (function.name.namespace, secret)
            if self._secrets.get(key) != value:
                await self._client.put_secret(secret, value, namespace=function.name.namespace)
                self._secrets[key] = value


def read_secret(folder: Path, name: str, fallback: Mapping[str, bytes]) -> bytes:
    """The secret's value from .secrets/NAME beside the stack file, without the newline an editor adds.

    Raises:
        InvalidDeployment: there is none; the hint says where to write it.
    """
    path = folder / SECRETS_FOLDER / name
    try:
        with path.open("rb") as file:
            return take_value(file, trim=True)
    except OSError:
        if name in fallback:
            return fallback[name]
        raise InvalidDeployment(
            f"secret '{name}' is missing",
            hint=f"Write its value to {SECRETS_FOLDER}/{name} beside the stack file.",
        ) from None
    except ValueError as wrong:
        raise InvalidDeployment(f"secret file {SECRETS_FOLDER}/{name} {wrong}") from None


def _watched(stack: Stack, functions: tuple[StackFunction, ...]) -> tuple[list[Path], list[Path]]:
    """Folders to watch as a whole, and single paths, which are seen when they come to be."""
    folders = {folder for f in functions for folder in (f.handler, f.template) if folder is not None}
    copies = {path for f in functions for path in f.copies.values()}
    folders |= {path for path in copies if path.is_dir()}
    secrets_folder = stack.path.parent.absolute() / SECRETS_FOLDER
    secrets = {secrets_folder / secret for f in functions for secret in f.secrets}
    if secrets and not secrets_folder.is_dir():
        secrets = {secrets_folder}
    return sorted(folders), sorted({*stack.read_from, *secrets, *copies, *folders})
