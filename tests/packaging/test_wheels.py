"""What is shipped: one wheel for every machine, and wheels whose data path is compiled.

`scripts/test` runs this file twice, the second time with TAILRACE_TEST_COMPILED=1 on the compiled wheel.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
import traceback
import zipfile
from pathlib import Path

import pytest

import tailrace
from tailrace.cli.datapath import data_path
from tailrace.wire.heads import HeadRefused, parse_request

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
IS_COMPILED = os.environ.get("TAILRACE_TEST_COMPILED") == "1"
# What every call or chunk goes through.
DATA_PATH = {
    "edge/call.py", "edge/connection.py", "edge/outbox.py", "edge/pool.py", "edge/stream.py",
    "functions/table.py", "wire/bodies.py", "wire/chunked.py", "wire/dialects.py", "wire/heads.py",
}  # fmt: skip


def _compiled_sources() -> list[Path]:
    return sorted(path for pattern in HOOK["modules"] for path in SRC.glob(pattern))


def test_the_data_path_is_what_is_compiled() -> None:
    """Each pattern in pyproject matches, and what a call goes through is among the matches."""
    found = {str(path.relative_to(SRC / "tailrace")) for path in _compiled_sources()}

    assert set() == DATA_PATH - found
    assert [] == [pattern for pattern in HOOK["modules"] if not list(SRC.glob(pattern))]


def test_the_build_hook_needs_what_is_locked() -> None:
    """The group `wheel` repeats what the hook asks of an isolated build, and nothing turns it on unasked."""
    assert PROJECT["dependency-groups"]["wheel"] == HOOK["dependencies"]
    assert HOOK["enable-by-default"] is False


def test_these_tests_run_on_what_they_are_meant_for() -> None:
    """Machine code where TAILRACE_TEST_COMPILED says so; else the sources, and no module in their way."""
    folder = Path(tailrace.__file__).parent.parent
    names = [".".join(path.relative_to(SRC).with_suffix("").parts) for path in _compiled_sources()]

    files = [Path(importlib.import_module(name).__file__ or "") for name in names]

    assert ["compiled" if IS_COMPILED else "pure Python"] == [data_path()]
    assert {".so" if IS_COMPILED else ".py"} == {path.suffix for path in files}
    assert [] == [path for path in files if not path.is_relative_to(folder)]
    assert (folder != SRC) == IS_COMPILED
    assert [] == list(SRC.rglob("*.so"))


def test_an_error_names_its_line() -> None:
    """Compiled code has tracebacks too, with the lines of the source."""
    with pytest.raises(HeadRefused) as caught:
        parse_request(b"GET / HTTP/2.0\r\n\r\n")

    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    lines = (SRC / "tailrace" / "wire" / "heads.py").read_text().splitlines()
    assert last.filename.endswith("tailrace/wire/heads.py")
    assert "HeadRefused(505" in lines[(last.lineno or 0) - 1]


@pytest.mark.slow
def test_the_wheel_for_every_machine_holds_sources_only(tmp_path: Path) -> None:
    """`scripts/wheel --pure`: all that is in src, and nothing that was compiled."""
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )

    name = done.stdout.strip()
    inside = set(zipfile.ZipFile(tmp_path / name).namelist())
    assert name == f"tailrace-{tailrace.__version__}-py3-none-any.whl"
    assert set() == {str(path.relative_to(SRC)) for path in SRC.rglob("*.py")} - inside
    assert [] == [path for path in inside if path.endswith((".so", ".c"))]


def test_what_is_missing_to_compile_is_said() -> None:
    """A compiler that is not there is named before anything is begun."""
    tools = [sys.executable, str(ROOT / "scripts" / "lib" / "wheel.py"), "tools"]

    done = subprocess.run(
        tools, env={**os.environ, "CC": "/nonexistent/cc"}, capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("C compiler")
