"""Compiles the data path into a wheel: mypyc's extension modules beside the sources they are made from.

Off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM says so (`scripts/wheel`). All work is done on a copy in a
temporary folder: an extension module left in ``src`` would be imported instead of its edited source.
See docs/decisions/0006.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# One group, one C file: calls between the modules are direct. Types are checked by scripts/check, with all
# stubs there; here a missing one means a slower call and no error.
_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports", "--no-incremental"]
setup(
    name="tailrace",
    ext_modules=mypycify([*options, *{modules!r}], group_name="tailrace", debug_level="0"),
)
"""


class DataPathHook(BuildHookInterface[BuilderConfig]):
    """The build hook that pyproject.toml names; ``modules`` there are globs of what is compiled."""

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Compile, and add what came out to the wheel.

        Raises:
            RuntimeError: it could not be compiled; the compiler's words are in the message.
        """
        if version == "editable":
            return
        self._temporary = tempfile.TemporaryDirectory(prefix="tailrace-mypyc-")
        self._folder = Path(self._temporary.name)
        sources = Path(self.root, "src")
        shutil.copytree(sources, self._folder / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        modules = sorted(
            str(path.relative_to(sources))
            for pattern in self.config["modules"]
            for path in sources.glob(pattern)
        )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"] = {str(made): name for name, made in self._compile(modules).items()}

    def _compile(self, modules: list[str]) -> dict[str, Path]:
        """The extension modules by the path each has in the wheel."""
        (self._folder / "setup.py").write_text(_SETUP.format(modules=modules))
        folders = ["--build-lib", "../made", "--build-temp", "../objects"]
        done = subprocess.run(
            [sys.executable, "../setup.py", "build_ext", *folders],
            cwd=self._folder / "src",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        made = self._folder / "made"
        found = {str(path.relative_to(made)): path for path in sorted(made.rglob("*.so"))}
        # One a module, and the one that holds the code of all.
        if done.returncode or len(found) != len(modules) + 1:
            raise RuntimeError(f"the data path could not be compiled:\n{done.stdout[-8000:]}")
        return found

    def finalize(self, version: str, build_data: dict[str, object], artifact_path: str) -> None:
        """The wheel is written: the temporary folder can go."""
        del build_data, artifact_path
        if version != "editable":
            self._temporary.cleanup()
