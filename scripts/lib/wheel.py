"""Wheels of Tailrace: into dist/ for a release, or unpacked into .build/ for tests and benchmarks.

    wheel.py tools       what is missing to compile the data path; nothing: it can be compiled
    wheel.py compiled    build dist/tailrace-*-<this platform>.whl, with the data path compiled
    wheel.py pure        build dist/tailrace-*-py3-none-any.whl
    wheel.py folder      print a folder for PYTHONPATH that holds the compiled wheel, built if need be

Everything runs in the environment that this runs in, so what builds is what is locked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
COMPILED = ROOT / ".build" / "compiled"
_HOOK = "HATCH_BUILD_HOOK_ENABLE_CUSTOM"
# The build backend's own entry, as pip calls it; it prints the wheel's name.
_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


class BuildFailed(Exception):
    """Why there is no wheel, in the words of what failed."""


def missing_tools() -> Iterator[str]:
    """What compiling would stop at."""
    compiler = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler.split()[0]) is None:
        yield "C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        yield "Python headers"


def build(folder: Path, *, is_compiled: bool) -> Path:
    """A wheel in the folder, built from the working tree.

    Raises:
        BuildFailed: the build did.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HATCH_")}
    if is_compiled:
        environment[_HOOK] = "true"
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, folder], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise BuildFailed(done.stderr.strip() or done.stdout.strip())
    return folder / done.stdout.strip().splitlines()[-1]


def compiled_folder() -> Path:
    """The compiled wheel unpacked: built anew when a source, the build or this Python is another one.

    Raises:
        BuildFailed: it cannot be built.
    """
    folder = COMPILED / _fingerprint()
    if folder.is_dir():
        return folder
    print("==> compiling the data path (half a minute of CPU, once per change)", file=sys.stderr, flush=True)
    COMPILED.mkdir(parents=True, exist_ok=True)
    before = list(COMPILED.iterdir())
    with tempfile.TemporaryDirectory(dir=COMPILED.parent) as name:
        unpacked = Path(name, "unpacked")
        with zipfile.ZipFile(build(Path(name), is_compiled=True)) as wheel:
            wheel.extractall(unpacked)
        unpacked.rename(folder)
    for old in before:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _fingerprint() -> str:
    sources = [path for path in (ROOT / "src").rglob("*") if path.is_file()]
    builders = ("pyproject.toml", "requirements-dev.lock", "scripts/lib/hatch_build.py")
    inputs = [path for path in sources if path.parent.name != "__pycache__"] + [
        ROOT / name for name in builders
    ]
    digest = hashlib.sha256(f"{sys.version}\0{sysconfig.get_platform()}\0".encode())
    for path in sorted(inputs):
        digest.update(b"%b\0%b\0" % (bytes(path.relative_to(ROOT)), path.read_bytes()))
    return digest.hexdigest()[:16]


def main() -> None:
    what = sys.argv[1]
    try:
        if what == "tools":
            print(" and ".join(missing_tools()))
        elif what == "folder":
            print(compiled_folder())
        else:
            print(build(DIST, is_compiled=what == "compiled"))
    except BuildFailed as failed:
        sys.exit(f"error: the wheel could not be built\n{failed}")


if __name__ == "__main__":
    main()
