"""Deployments as files: one JSON per function, replaced atomically."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec

from tailrace.build.store import is_digest
from tailrace.model import FunctionSpec
from tailrace.names import FunctionName, is_function_label, parse_function_name
from tailrace.state import TEMPORARY, sync_folder, write_atomically


class _Saved(msgspec.Struct):
    format: int
    spec: FunctionSpec


class SpecFiles:
    """The saved deployments in one folder, which must exist and be ours alone. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, *, refused: Callable[[FunctionName, str], None]) -> list[FunctionSpec]:
        """All that can be read, sorted by name; refused is told of each that cannot, which stays, and why."""
        specs = []
        for path in sorted(self._folder.glob("*.json")):
            name = parse_function_name(path.stem)
            if name is None or path.name.startswith(TEMPORARY):
                continue
            try:
                specs.append(_read(path, name))
            except (OSError, ValueError) as exc:
                refused(
                    name,
                    f"saved deployment '{path}' cannot be read, so it is not restored: {exc}; "
                    "deploy the function again, which replaces the file",
                )
        return specs

    def save(self, spec: FunctionSpec) -> None:
        """Replace the function's saved deployment; durable when it returns."""
        # Mappings of a spec may be read-only views, which have no JSON form.
        plain = dataclasses.replace(
            spec, env=dict(spec.env), labels=dict(spec.labels), annotations=dict(spec.annotations)
        )
        data = msgspec.json.encode(_Saved(1, plain))
        write_atomically(self._path(spec.name), msgspec.json.format(data, indent=2))

    def forget(self, name: FunctionName) -> None:
        """Drop a saved deployment, durably; nothing happens when there is none."""
        self._path(name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _path(self, name: FunctionName) -> Path:
        assert is_function_label(name.name), "a name that was never checked"
        assert is_function_label(name.namespace), "a name that was never checked"
        return self._folder / f"{name}.json"


def _read(path: Path, name: FunctionName) -> FunctionSpec:
    saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    if saved.format != 1 or saved.spec.name != name or not is_digest(saved.spec.bundle):
        raise ValueError("it is of another format, or for another function")
    return saved.spec
