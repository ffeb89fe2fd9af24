"""``tailrace doctor``: what on this machine would keep Tailrace from working, and what to do about it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tailrace.cli.datapath import data_path
from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import FAILED, Result, finish
from tailrace.errors import StateTaken, TailraceError

if TYPE_CHECKING:
    from tailrace.cli.terminal import Paint
    from tailrace.settings import Settings

Verdict = Literal["ok", "warn", "fail"]
# Each stream takes two files in the gateway and one or two in its replica.
_FILES_WANTED = 4096
_PYTHON_WANTED = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its verdict, what was found, and what to do when it is not ok."""

    name: str
    verdict: Verdict
    text: str
    advice: str = ""


def command(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Check this machine: Python, data path, uv, port, state directory, gateway, local model, open files.

    The exit code is 1 when something would keep Tailrace from working.
    """
    from tailrace.cli.terminal import paint_for
    from tailrace.settings import load

    settings = load()
    checks: list[Callable[[], Finding]] = [
        check_python,
        check_data_path,
        check_uv,
        lambda: check_state(settings),
        lambda: check_port(settings),
        lambda: check_gateway(gateway),
        check_model,
        check_files,
    ]
    findings = [check() for check in checks]
    paint = paint_for(sys.stdout, os.environ)
    data = [{"name": f.name, "verdict": f.verdict, "text": f.text, "advice": f.advice} for f in findings]
    failed = any(f.verdict == "fail" for f in findings)
    text = "\n".join(render(finding, paint) for finding in findings)
    finish(Result(text, data, exit_code=FAILED if failed else 0), as_json=as_json)


def render(finding: Finding, paint: Paint) -> str:
    """One check as one line, its advice on the next."""
    colour = {"ok": paint.green, "warn": paint.yellow, "fail": paint.red}[finding.verdict]
    line = f"{colour(finding.verdict.ljust(4))}  {finding.name:<10} {finding.text}"
    return f"{line}\n{'':17}{finding.advice}" if finding.advice else line


def check_python() -> Finding:
    """The Python that functions run on too."""
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _PYTHON_WANTED:
        return Finding("python", "fail", text, "Install Python 3.11 or newer.")
    return Finding("python", "ok", text)


def check_data_path() -> Finding:
    """Whether calls go through machine code."""
    how = data_path()
    advice = "A wheel made by scripts/wheel has it compiled: a third of its own CPU per request."
    return Finding("data path", "ok", how, advice if how == "pure Python" else "")


def check_uv() -> Finding:
    """The tool that builds functions' environments."""
    try:
        from uv import find_uv_bin

        path = find_uv_bin()
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (ImportError, OSError, subprocess.SubprocessError) as failed:
        return Finding("uv", "fail", f"not usable: {failed}", "Reinstall: pip install --force-reinstall uv")
    return Finding("uv", "ok", f"{done.stdout.strip()} at {path}")


def check_state(settings: Settings) -> Finding:
    """Whether a gateway could own the state directory."""
    from tailrace.state import open_state

    try:
        with open_state(settings.state_dir):
            return Finding("state", "ok", f"{settings.state_dir} is free")
    except StateTaken as taken:
        return Finding("state", "warn", taken.message, "A second gateway needs its own TAILRACE_STATE_DIR.")
    except TailraceError as failed:
        return Finding("state", "fail", failed.message, failed.hint or "")


def check_port(settings: Settings) -> Finding:
    """Whether a gateway could listen where it would."""
    from tailrace.ports import bind_tcp

    try:
        bind_tcp(settings.host, settings.port).close()
    except TailraceError as taken:
        return Finding("port", "warn", taken.message, taken.hint or "")
    return Finding("port", "ok", f"{settings.host}:{settings.port} is free")


def check_gateway(gateway: str | None) -> Finding:
    """Whether the gateway that other commands would talk to answers them."""
    import asyncio

    from tailrace.cli.credentials import find_authorization
    from tailrace.client import open_client
    from tailrace.gateway_url import DEFAULT_GATEWAY, parse_gateway

    async def ask() -> str:
        url, own = parse_gateway(gateway or DEFAULT_GATEWAY)
        async with open_client(url, authorization=own or find_authorization(url, os.environ)) as client:
            info = await client.info()
            return f"{url} answers: {info.version.release} ({info.provider.provider})"

    try:
        return Finding("gateway", "ok", asyncio.run(ask()))
    except TailraceError as failed:
        return Finding("gateway", "warn", failed.message, failed.hint or "")


def check_model() -> Finding:
    """Whether the local language model can run here, and is installed."""
    from tailrace.llm.install import find_model
    from tailrace.llm.machine import check_machine, this_machine

    try:
        check_machine(this_machine())
    except TailraceError as cannot:
        return Finding("model", "warn", cannot.message, cannot.hint or "")
    if find_model() is None:
        return Finding(
            "model", "ok", "this CPU can run it; not installed", "Install it: tailrace llm install"
        )
    return Finding("model", "ok", "installed")


def check_files() -> Finding:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{soft} open files per process"
    if 0 <= soft < _FILES_WANTED:
        raised = _FILES_WANTED if hard < 0 else min(hard, _FILES_WANTED)
        return Finding("files", "warn", text, f"For many streams, before the start: ulimit -n {raised}")
    return Finding("files", "ok", text)
