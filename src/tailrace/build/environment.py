"""Virtual environments for functions: one per set of requirements, built by uv, kept by content hash.

An environment is built beside its place and renamed there, so a crash leaves none half-built. What is
there already needs neither uv nor a network.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uv

from tailrace.build.indexes import PackageIndex
from tailrace.build.requirements import Requirements, redact
from tailrace.errors import EnvironmentFailed
from tailrace.state import TEMPORARY, remove_tree, sync_folder

Tell = Callable[[str], None]

# Compiling large packages from source takes minutes; a build over half an hour hangs.
_BUILD_TIMEOUT_S = 1800.0
# Each build uses several cores already.
_BUILDS_AT_ONCE = 2
_QUOTED_LINES = 15
_QUOTED_CHARACTERS = 2000
_OUTPUT_LIMIT = 64 * 1024
_PASSED = frozenset({"PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"})
_PASSED_PREFIXES = ("UV_", "PIP_")


def _nowhere(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is complete. ``python`` starts its interpreter."""

    key: str
    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asked for a build, and how its installer's words may be told."""

    name: str
    tell: Tell
    show: Tell
    index: PackageIndex | None

    def show_line(self, line: str) -> None:
        if words := self.clean(f"{line}\n").strip():
            self.show(words)

    def clean(self, output: str) -> str:
        """The installer's output without credentials, and without what tells of folders of ours."""
        output = re.sub(r"(?m)^(?:Using |Creating virtual |Activate with: ).*\n", "", output)
        output = self.index.redact(output) if self.index else output
        return re.sub(r"/\S*/(?=runtime\.txt|requirements\.txt)", "", redact(output))


@dataclass(slots=True)
class _Build:
    task: asyncio.Task[Environment]
    waiting: int = 0


class Environments:
    """The environments in one folder, which must exist and be ours alone.

    Args:
        runtime: What every environment holds beside the function's own requirements.
        env: Where the installer's variables come from; None is this process's environment.
    """

    def __init__(self, folder: Path, *, runtime: Requirements, env: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._runtime = runtime
        self._env = installer_env(os.environ if env is None else env)
        self._builds: dict[str, _Build] = {}
        self._free = asyncio.Semaphore(_BUILDS_AT_ONCE)

    def find(self, requirements: Requirements) -> Environment | None:
        """The environment for these requirements when it is there; builds nothing."""
        environment = self._place(requirements)
        return environment if environment.python.exists() else None

    async def ensure(
        self,
        requirements: Requirements,
        *,
        name: str,
        tell: Tell,
        show: Tell = _nowhere,
        index: PackageIndex | None = None,
    ) -> Environment:
        """The environment for these requirements, built when it is not there yet.

        Callers with equal requirements share one build; it is killed when the last of them is cancelled.

        Args:
            name: The function's name, for the texts.
            tell: Takes lines of progress, without newlines; not called when there is nothing to build.
            show: Takes the installer's own lines as they come.
            index: Where the packages come from, for this build alone; its name is that of the requirements.
        Raises:
            EnvironmentFailed: the requirements cannot be installed; the text quotes the installer.
        """
        found = self.find(requirements)
        if found is not None:
            return found
        key = self._place(requirements).key
        build = self._builds.get(key)
        if build is None:
            if requirements.index and index is None:
                raise EnvironmentFailed(
                    f"requirements of '{name}' came from a private package index, which is kept nowhere",
                    hint="Build the function again, with its build secret.",
                )
            work = self._build(requirements, _Asked(name, tell, show, index))
            build = self._builds[key] = _Build(asyncio.create_task(work, name=f"environment {key[:12]}"))
        else:
            tell("waiting for the same requirements, which another function is installing")
        return await self._join(key, build)

    async def _join(self, key: str, build: _Build) -> Environment:
        build.waiting += 1
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiting -= 1
            if build.task.done():
                self._forget(key, build)
            elif not build.waiting:
                self._forget(key, build)
                build.task.cancel()
                await asyncio.wait([build.task])

    def _forget(self, key: str, build: _Build) -> None:
        if self._builds.get(key) is build:
            del self._builds[key]

    def _place(self, requirements: Requirements) -> Environment:
        seen = [
            1,  # raised when the way of building changes
            self._runtime.lines,
            requirements.lines,
            platform.python_version(),
            sys.implementation.cache_tag,
            sysconfig.get_platform(),
            _base_python(),
            *([requirements.index] if requirements.index else []),
        ]
        key = hashlib.sha256(json.dumps(seen).encode()).hexdigest()
        return Environment(key, self._folder / key[:32])

    async def _build(self, requirements: Requirements, asked: _Asked) -> Environment:
        async with self._free:
            started = time.monotonic()
            asked.tell(f"installing requirements of '{asked.name}': {_few(requirements.names)}")
            place = self._place(requirements)
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self._folder))
            try:
                await self._install(temporary, requirements, asked)
                await asyncio.to_thread(_move_into_place, temporary / "env", place.path)
            except OSError as exc:  # a full disk, or no uv
                raise EnvironmentFailed(
                    f"requirements of '{asked.name}' could not be installed: {exc}"
                ) from exc
            finally:
                await asyncio.shield(asyncio.to_thread(remove_tree, temporary))
            asked.tell(f"environment ready in {time.monotonic() - started:.1f} s")
            return place

    async def _install(self, temporary: Path, requirements: Requirements, asked: _Asked) -> None:
        both = {"runtime.txt": self._runtime, "requirements.txt": requirements}
        lists = {file: wanted for file, wanted in both.items() if wanted.lines}
        for file, wanted in lists.items():
            (temporary / file).write_text("".join(f"{line}\n" for line in wanted.lines))
        env = temporary / "env"
        venv = ["venv", "--relocatable", "--no-project", "--no-python-downloads", "--python", _base_python()]
        await self._run(asked, *venv, str(env))
        if not lists:
            return
        parts = [part for file in lists for part in ("-r", str(temporary / file))]
        install = ["pip", "install", "--compile-bytecode", "--python", str(env / "bin" / "python")]
        await self._run(asked, *install, *parts)

    async def _run(self, asked: _Asked, *arguments: str) -> None:
        """Run uv in a group of its own; the group is dead when this returns, however it returns."""
        process = await asyncio.create_subprocess_exec(
            uv.find_uv_bin(), "--no-progress", "--color", "never", *arguments,
            # Not the current folder: uv would read the pyproject.toml of whatever project that is.
            cwd="/", env=asked.index.installer_env(self._env) if asked.index else self._env,
            start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None  # a pipe was asked for
        reading = asyncio.ensure_future(_read_tail(process.stdout, asked.show_line))
        try:
            async with asyncio.timeout(_BUILD_TIMEOUT_S):
                code = await process.wait()
                _kill_group(process.pid)  # a server that a build has left would hold the pipe
                output = await reading
        except TimeoutError:
            raise EnvironmentFailed(
                f"requirements of '{asked.name}' were not installed within {_BUILD_TIMEOUT_S:.0f} s"
            ) from None
        finally:
            if process.returncode is None:
                _kill_group(process.pid)
                await asyncio.shield(process.wait())
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if code:
            raise self._failed(asked, output)

    def _failed(self, asked: _Asked, output: str) -> EnvironmentFailed:
        lines = [line.rstrip() for line in asked.clean(output).splitlines() if line.strip()][-_QUOTED_LINES:]
        quoted = "\n".join(lines)[-_QUOTED_CHARACTERS:]
        return EnvironmentFailed(
            f"requirements of '{asked.name}' could not be installed:\n{quoted}", hint=self._hint(output)
        )

    def _hint(self, output: str) -> str | None:
        if re.search(r"dns error|error sending request|connect error|timed out|Failed to fetch", output):
            return "Is the package index reachable from here? uv reads HTTPS_PROXY and UV_DEFAULT_INDEX."
        if "not found in the package registry" in output:
            return "Is the package's name in requirements.txt spelled as on the package index?"
        if "unsatisfiable" in output:
            wanted = ", ".join(self._runtime.lines)
            return f"Loosen the versions in requirements.txt. The runtime itself needs: {wanted}."
        return None


def installer_env(source: Mapping[str, str]) -> dict[str, str]:
    """What the installer sees of source: where things are, certificates, proxies, its own settings.

    It trusts what the machine trusts, as pip does: a company's own certificate authority, for example.
    """
    passed = {
        key: value
        for key, value in source.items()
        if key in _PASSED or key.startswith(_PASSED_PREFIXES) or key.upper().endswith("_PROXY")
    }
    return {"UV_SYSTEM_CERTS": "true", **passed}


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        os.killpg(pid, signal.SIGKILL)


def _base_python() -> str:
    """The interpreter below this one's virtual environment, so ours can be moved or removed."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _few(names: list[str]) -> str:
    if not names:
        return "none but the runtime's"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


async def _read_tail(stream: asyncio.StreamReader, show: Tell) -> str:
    """The end of what comes; whole lines are shown as they come, and the parts of one over 64 KiB are."""
    tail, line = b"", b""
    while data := await stream.read(_OUTPUT_LIMIT):
        tail = (tail + data)[-_OUTPUT_LIMIT:]
        *whole, line = (line + data).split(b"\n")
        if len(line) > _OUTPUT_LIMIT:
            whole, line = [*whole, line], b""
        for found in whole:
            show(found.decode("utf-8", "replace"))
    return tail.decode("utf-8", "replace")


def _move_into_place(built: Path, place: Path) -> None:
    if place.exists():  # its interpreter is gone, or `find` would have taken it
        remove_tree(place.rename(built.with_name("broken")))
    built.rename(place)
    sync_folder(place.parent)
