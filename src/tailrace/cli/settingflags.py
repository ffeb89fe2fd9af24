"""The gateway's settings as options of a command: each is named and explained by its row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailrace.settings import ROWS


def _option(name: str, metavar: str = "", *, short: str = "") -> object:
    row = next(row for row in ROWS if row.name == name)
    default = "" if name == "state_dir" else f" Default: {row.default}."  # depends on the person
    decls = [row.flag, short] if short else [row.flag]
    return typer.Option(*decls, metavar=metavar or None, help=f"{row.sentence}{default}")


Host = Annotated[str | None, _option("host", "HOST")]
Port = Annotated[int | None, _option("port", "PORT", short="-p")]
Auth = Annotated[bool | None, _option("auth")]
StateDir = Annotated[Path | None, _option("state_dir", "DIR")]
BodyLimit = Annotated[int | None, _option("body_limit", "BYTES")]
BundleLimit = Annotated[int | None, _option("bundle_limit", "BYTES")]
QueueTimeout = Annotated[float | None, _option("queue_timeout_s", "SECONDS")]
StartTimeout = Annotated[float | None, _option("start_timeout_s", "SECONDS")]
LogLines = Annotated[int | None, _option("log_lines", "N")]
