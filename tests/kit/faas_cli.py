"""A stock `faas-cli`, where there is one, as a person runs it: in a folder, with a home of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIMIT_S = 90.0


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said: the answer on stdout, all else on both."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class FaasCli:
    """Runs commands in ``folder``; its login and its templates lie there too."""

    path: Path
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *args: str, stdin: str = "", folder: Path | None = None) -> Done:
        """One command to its end."""
        done = subprocess.run(
            [str(self.path), *args], cwd=folder or self.folder, env=self._environ(), input=stdin,
            capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *args: str, stdin: str = "", folder: Path | None = None) -> Done:
        """The same; fails with what it said when it did."""
        done = self.run(*args, stdin=stdin, folder=folder)
        assert done.code == 0, f"faas-cli {' '.join(args)}: exit {done.code}\n{done.text}"
        return done

    def pieces(self, *args: str, stdin: str = "", until: str = "") -> list[tuple[float, str]]:
        """What a command prints, with when each piece came; it is stopped once ``until`` was printed."""
        process = subprocess.Popen(
            [str(self.path), *args], cwd=self.folder, env=self._environ(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            process.stdin.write(stdin.encode())
            process.stdin.close()
            began, found = time.monotonic(), []
            while piece := os.read(process.stdout.fileno(), 65536):
                found.append((time.monotonic() - began, piece.decode()))
                if until and until in "".join(text for _, text in found):
                    process.terminate()
                    break
                assert time.monotonic() - began < LIMIT_S, found
        return found

    def _environ(self) -> dict[str, str]:
        # Not CI: with it, faas-cli keeps its login in the working folder.
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), **self.env}


def needs_faas_cli() -> Path:
    """The path of a stock faas-cli; skips, in CI too, where there is none: no package brings it."""
    found = os.environ.get("FAAS_CLI") or shutil.which("faas-cli")
    if not found:
        pytest.skip("there is no faas-cli: put one on PATH, or its path into FAAS_CLI")
    return Path(found).resolve(strict=True)
