"""Gateway credentials in ``~/.openfaas/config.yml``, the file faas-cli reads and writes too."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tailrace.cli.stackfile import read_text
from tailrace.cli.stackreader import Reader
from tailrace.cli.yamltext import parse_yaml
from tailrace.errors import InvalidRequest


def config_path(env: Mapping[str, str]) -> Path:
    """Where the file is: $OPENFAAS_CONFIG names its folder; in CI it is ./.openfaas. Source: contract 1.4."""
    if folder := env.get("OPENFAAS_CONFIG"):
        return Path(folder).expanduser() / "config.yml"
    home = Path() if env.get("CI") in ("true", "1") else Path(env.get("HOME") or Path.home())
    return home / ".openfaas" / "config.yml"


def find_authorization(gateway: str, env: Mapping[str, str]) -> str:
    """The Authorization header that is saved for this gateway; empty when there is none.

    Raises:
        InvalidDeployment: the file is there and cannot be read.
    """
    path = config_path(env)
    if not path.is_file():
        return ""
    for entry in _entries(path):
        if _same(entry.get("gateway", ""), gateway) and entry.get("token"):
            kind = "Basic" if entry.get("auth") == "basic" else "Bearer"
            return f"{kind} {entry['token']}"
    return ""


def save_basic(gateway: str, authorization: str, env: Mapping[str, str]) -> Path:
    """Keep ``Basic ...`` for this gateway, readable by this user only; other gateways' entries stay."""
    path = config_path(env)
    token = authorization.removeprefix("Basic ")
    with _alone(path):
        _write(path, [*_others(path, gateway), {"gateway": gateway, "auth": "basic", "token": token}])
    return path


def forget(gateway: str, env: Mapping[str, str]) -> bool:
    """Drop what is kept for this gateway; False when nothing is. Other gateways' entries stay."""
    path = config_path(env)
    if not path.is_file():
        return False
    with _alone(path):
        others = _others(path, gateway)
        if len(others) == len(_entries(path)):
            return False
        _write(path, others)
    return True


def _others(path: Path, gateway: str) -> list[dict[str, str]]:
    """The entries of other gateways."""
    if not path.is_file():
        return []
    return [entry for entry in _entries(path) if not _same(entry.get("gateway", ""), gateway)]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else of us changes the file meanwhile; what one that was killed left beside it is removed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system that has no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        for left in path.parent.glob(f".{path.name}.*"):
            if left.suffix[1:].isdigit():
                left.unlink(missing_ok=True)
        yield
    finally:
        os.close(folder)


def _write(path: Path, entries: list[dict[str, str]]) -> None:
    """Replace the file, readable by this user only."""
    import yaml

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            yaml.safe_dump({"auths": entries}, file, sort_keys=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _entries(path: Path) -> list[dict[str, str]]:
    reader = Reader(str(path))
    top = reader.table(parse_yaml(read_text(path), source=str(path)), "the file")
    tables = [reader.table(node, "an entry") for node in reader.rows(top, "auths")]
    found = [{key: reader.text(t, key) for key in t.items if key != "options"} for t in tables]
    if any("\n" in value for entry in found for value in entry.values()):
        raise InvalidRequest(f"{path} has an entry with a line end in it")
    return found


def _same(one: str, other: str) -> bool:
    return one.lower().rstrip("/") == other.lower().rstrip("/")
