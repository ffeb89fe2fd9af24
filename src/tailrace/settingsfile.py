"""The file of settings: TOML, by name, read as strictly as flags and environment."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from tailrace.addresses import without_password
from tailrace.errors import InvalidRequest
from tailrace.names import nearest


def read_file(path: Path, known: Sequence[str]) -> dict[str, object]:
    """The file's settings as TOML has them; every key is a known one.

    Raises:
        InvalidRequest: it cannot be read, or is none.
    """
    try:
        found: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failed:
        raise InvalidRequest(f"settings file '{path}' cannot be read: {failed.strerror}") from failed
    except (ValueError, RecursionError) as failed:  # of TOML or of UTF-8
        raise InvalidRequest(f"settings file '{path}' is not TOML: {failed}") from failed
    for key in found:
        if key not in known:
            near = nearest(key, known)
            raise InvalidRequest(
                f"settings file '{path}': '{key}' is not a setting",
                hint=f"Did you mean '{near}'?" if near else "docs/reference/settings.md lists them.",
            )
    return found


def of_file(name: str, parse: Callable[[str], object], given: object, path: Path) -> object:
    """A TOML value as the setting's. Paths in a file count from the file's folder.

    Raises:
        InvalidRequest: it is no value of this setting.
    """
    try:
        as_json = json.dumps(given, default=str)
    except ValueError:
        as_json = "a number of too many digits"
    shown = f"settings file '{path}': {name} = {without_password(as_json):.200}"
    try:
        value = parse(_as_text(given))
    except ValueError as expected:
        raise InvalidRequest(f"{shown} is not valid: expected {expected}") from None
    if isinstance(value, bool):
        kind, form = isinstance(given, bool), "true or false"
    elif isinstance(value, int | float):
        kind, form = isinstance(given, int | float), "a number, without quotes"
    elif isinstance(value, tuple):
        kind, form = isinstance(given, str | list), "a list of texts in quotes"
    else:
        kind, form = isinstance(given, str), "a text in quotes"
    if not kind:
        raise InvalidRequest(f"{shown} is not valid: expected {form}")
    return path.parent / Path(str(given)).expanduser() if isinstance(value, Path) else value


def _as_text(given: object) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, list):
        return ",".join(str(part) for part in given)
    return str(given)
