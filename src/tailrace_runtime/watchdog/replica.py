"""The watchdog as a replica: on the provider's socket, with its reports, its lifeline and its journal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace_runtime.load import LoadFailed
from tailrace_runtime.server_async import serve_async
from tailrace_runtime.watchdog.apps import HttpApp, build_app
from tailrace_runtime.watchdog.child import LOOPBACK, Child, NotListening
from tailrace_runtime.watchdog.config import read_config

if TYPE_CHECKING:
    import socket

    from tailrace_runtime.boot import Boot
    from tailrace_runtime.journal import Journal
    from tailrace_runtime.report import Reporter

# What the exit code of a replica says whose process ended.
EXIT_PROCESS_ENDED = 76


def serve_process(listener: socket.socket, boot: Boot, journal: Journal, reporter: Reporter) -> None:
    """Serve the function's own process until told to stop.

    Raises:
        LoadFailed: its variables say nothing that can be done, or it does not listen.
    """
    try:
        config = read_config(os.environ)
    except ValueError as wrong:
        raise LoadFailed(str(wrong), hint="docs/reference/watchdog.md lists the variables.") from None
    os.chdir(Path(boot.root, "function"))
    os.environ.update(_secrets_env(boot))

    def log(stream: str, text: str) -> None:
        for line in text.splitlines(keepends=True):
            reporter.log(stream, line, "")

    def log_call(stream: str, text: str) -> None:  # in the call's own task, so with its id
        (journal.stderr if stream == "stderr" else journal.stdout).write(text)

    child = Child(
        config.fprocess, config.upstream_port, log, is_private=True, line_limit=config.log_buffer_size
    )
    app = build_app(config, child, log_call)
    lifespan = _living(child, journal) if isinstance(app, HttpApp) else None
    serve_async(listener, app, journal, reporter, lambda: reporter.loaded(0.0), lifespan=lifespan)


def _secrets_env(boot: Boot) -> dict[str, str]:
    """The way to its secrets: for Python by a hook, for others a folder with links to their files."""
    if not boot.secrets:
        return {}
    # Not beside HOME where it is known better: the deployment's variables may say another HOME.
    own = Path(boot.folder) if boot.folder else Path(os.environ.get("HOME", boot.root)).parent
    folder = own / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, path in boot.secrets.items():
        (folder / name).symlink_to(path)
    return {"secrets_path": str(folder), "TAILRACE_SECRET_FILES": json.dumps(dict(boot.secrets))}


@contextlib.asynccontextmanager
async def _living(child: Child, journal: Journal) -> AsyncIterator[None]:
    """The process while the replica serves; when it ends by itself, so does the replica."""
    try:
        await child.start(os.environ)
    except NotListening as failed:
        raise LoadFailed(str(failed), hint=_hint(child)) from None
    except OSError as failed:
        raise LoadFailed(f"fprocess cannot be started: {failed}", hint="Is the program in PATH?") from None

    async def watch() -> None:
        code = await child.wait_exit()
        journal.stderr.write(f"the function's process ended with exit code {code}\n")
        os._exit(EXIT_PROCESS_ENDED)

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        await child.stop()


def _hint(child: Child) -> str:
    return f"Its variables PORT and upstream_url name the port it should use: {LOOPBACK}:{child.port}."
