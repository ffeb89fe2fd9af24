"""Every setting of the gateway: one row each. Flags, environment, ``--help`` and docs derive from here.

A value comes from the flag, else the environment, else the default, and remembers which. Garbage is
refused with the key, the value and its source; it never falls back to a default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

from tailrace.errors import InvalidRequest


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:
            raise ValueError(f"seconds from {low:g} to {high:g}")
        return value

    return parse


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1")


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _host(text: str) -> str:
    if not text or any(c.isspace() or c == "/" for c in text):
        raise ValueError("an IP address or a host name")
    return text.strip("[]")


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its field in `Settings`, how its text is read, its default's text, unit and sentence."""

    name: str
    parse: Callable[[str], Any]
    default: str
    unit: str
    sentence: str

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return f"TAILRACE_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The command line option that sets it, where a command offers it."""
        return f"--{self.name.replace('_', '-')}"


MIB = 1024 * 1024

ROWS: tuple[Row, ...] = (
    Row("host", _host, "127.0.0.1", "", "Address the gateway listens on; other than loopback needs auth."),
    Row("port", _whole(0, 65535), "8080", "", "Port the gateway listens on; 0 takes a free one."),
    Row("auth", _flag, "false", "", "Ask for the admin's password everywhere but on functions."),
    Row(
        "state_dir", _path, str(platformdirs.user_data_path("tailrace")), "",
        "Folder for bundles, environments, secrets and deployments; one gateway owns it at a time.",
    ),
    Row("body_limit", _whole(1024, 1 << 40), str(1024 * MIB), "bytes", "Largest request body; over it: 413."),
    Row("bundle_limit", _whole(1024, 1 << 32), str(64 * MIB), "bytes", "Largest handler folder, packed."),
    Row(
        "queue_timeout_s", _seconds(0.01, 3600), "30", "seconds",
        "How long a call is held while its function has no ready replica; over it: 503.",
    ),
    Row(
        "start_timeout_s", _seconds(1, 3600), "120", "seconds",
        "How long a replica may take to load its handler before it is killed.",
    ),
    Row("log_lines", _whole(100, 1_000_000), "5000", "lines", "Log lines kept in memory per function."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings of one gateway. Build it with `load`."""

    host: str
    port: int
    auth: bool
    state_dir: Path
    body_limit: int
    bundle_limit: int
    queue_timeout_s: float
    start_timeout_s: float
    log_lines: int
    # Where each value came from: "flag", "environment" or "default", by field name.
    sources: Mapping[str, str]


def load(flags: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (None values mean: not given), the environment, and defaults.

    Raises:
        InvalidRequest: a value does not parse; the text names key, value, source and what is expected.
    """
    environ = os.environ if env is None else env
    given = {k: str(v) for k, v in (flags or {}).items() if v is not None}
    assert set(given) <= {row.name for row in ROWS}, "a flag without a row"
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for row in ROWS:
        if row.name in given:
            text, source, key = given[row.name], "flag", row.flag
        elif row.env in environ:
            text, source, key = environ[row.env], "environment", row.env
        else:
            text, source, key = row.default, "default", row.name
        try:
            values[row.name] = row.parse(text)
        except ValueError as expected:
            raise InvalidRequest(f"{key}={text} is not valid: expected {expected}") from None
        sources[row.name] = source
    return Settings(**values, sources=sources)


assert {row.name for row in ROWS} == {f.name for f in fields(Settings)} - {"sources"}
