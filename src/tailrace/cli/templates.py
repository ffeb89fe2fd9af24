"""Templates of others: fetched with git or from a folder, checked, and put into ``./template``.

Source: contract 1.4 and 5: ``template/<name>/template.yml`` of a repository, ``URL#ref``.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

import msgspec

from tailrace.addresses import without_password
from tailrace.build.templatefile import FILE, TemplateFile, read_template_file
from tailrace.cli.stackfile import TEMPLATES
from tailrace.errors import InvalidBundle, InvalidRequest, NotFound, TooLarge
from tailrace.state import remove_tree

STORE_URL = "https://raw.githubusercontent.com/openfaas/store/master/templates.json"
META = "meta.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_SHA = re.compile(r"sha-([0-9a-f]{7,64})")
_MAX_FILES = 5_000
_LIMIT_BYTES = 64 * 1024 * 1024
_GIT_TIMEOUT_S = 300.0
# git asks nobody, and follows no address that runs a program.
_GIT_ENV = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where templates come from: a repository's address or a folder, and a branch, a tag or ``sha-<hex>``."""

    repository: str
    ref: str = ""

    @property
    def shown(self) -> str:
        """The repository as it may be shown and kept: without a password."""
        return without_password(self.repository)


class StoreTemplate(msgspec.Struct):
    """An item of a template store's JSON list."""

    template: str
    language: str = ""
    source: str = ""
    description: str = ""
    repo: str = ""
    platform: str = ""
    official: str = ""
    recommended: bool = False


@dataclass(frozen=True, slots=True)
class Pulled:
    """A template after a pull. ``is_new`` is false for one that was there and stays as it is."""

    name: str
    is_new: bool


def parse_source(text: str) -> Source:
    """``URL``, ``URL#ref`` or a path.

    Raises:
        InvalidRequest: it is none of them.
    """
    repository, mark, ref = text.partition("#")
    if not repository or repository.startswith("-") or "::" in repository:
        raise InvalidRequest(
            f"'{without_password(text)}' is no repository",
            hint="Write https://.../templates.git or a folder.",
        )
    if mark and not _REF.fullmatch(ref):
        raise InvalidRequest(f"'{ref}' is no branch, tag or sha-<hex>")
    return Source(repository, ref)


def pull(
    source: Source, folder: Path, *, is_overwriting: bool = False, only: str | None = None
) -> list[Pulled]:
    """Put a repository's templates below ``folder/template``; each is there whole or not at all.

    Args:
        only: Just the template of this name.
    Raises:
        NotFound: there is nothing there, no template in it, or not the one that is wanted.
        InvalidBundle, TooLarge: a template holds links, too many files, or too large ones.
    """
    with tempfile.TemporaryDirectory(prefix="tailrace-template-") as scratch:
        top, sha = _fetch(source, Path(scratch, "repository"))
        found = _templates_of(top, source)
        if only is not None:
            found = {name: path for name, path in found.items() if name == only}
            if not found:
                raise NotFound(f"{source.shown} has no template '{only}'")
        for path in found.values():
            _check(path)
        meta = {
            "repository": source.shown,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "ref_name": source.ref,
            "sha": sha,
        }
        return [_install(name, path, folder, meta, is_overwriting) for name, path in sorted(found.items())]


def pulled(folder: Path) -> dict[str, Path]:
    """The templates below ``folder/template``, by name."""
    top = folder / TEMPLATES
    if not top.is_dir():
        return {}
    return {path.name: path for path in sorted(top.iterdir()) if (path / FILE).is_file()}


def is_template_name(text: str) -> bool:
    """Whether a template can have this name: one plain part of a path."""
    return _NAME.fullmatch(text) is not None


def read_pulled(template: Path) -> TemplateFile:
    """What the ``template.yml`` of a template in this folder says.

    Raises:
        InvalidBundle: it cannot be understood; the text names the template.
    """
    try:
        return read_template_file(template)
    except InvalidBundle as bad:
        raise InvalidBundle(f"template '{template.name}': {bad.message}") from None


def _templates_of(top: Path, source: Source) -> dict[str, Path]:
    home = top / TEMPLATES
    entries = sorted(home.iterdir()) if home.is_dir() and not home.is_symlink() else []
    for path in (home, *entries):  # a link could lead anywhere, out of the repository too
        if path.is_symlink():
            raise InvalidBundle(f"{path.relative_to(top)} of {source.shown} is a link; links are refused")
    found = [path for path in entries if (path / FILE).is_file()]
    if not found:
        raise NotFound(f"{source.shown} has no {TEMPLATES}/<name>/{FILE}")
    for path in found:
        if not _NAME.fullmatch(path.name):
            raise InvalidBundle(f"'{path.name[:80]}' is no name of a template")
    return {path.name: path for path in found}


def _fetch(source: Source, destination: Path) -> tuple[Path, str]:
    """The repository's files, and their commit where that is known."""
    local = Path(source.repository).expanduser()
    _check_local(local, source)
    if local.is_dir() and not source.ref and not (local / ".git").exists() and (local / TEMPLATES).is_dir():
        return local, ""
    repository, env = (str(local.absolute()), {}) if local.is_dir() else _private(source.repository)
    if sha := _SHA.fullmatch(source.ref):
        _git("clone", "--quiet", "--no-checkout", "--", repository, str(destination), env=env)
        _git("-C", str(destination), "checkout", "--quiet", "--detach", sha[1])
    else:
        branch = ("--branch", source.ref) if source.ref else ()
        _git("clone", "--quiet", "--depth", "1", *branch, "--", repository, str(destination), env=env)
    return destination, _git("-C", str(destination), "rev-parse", "HEAD").strip()


def _private(url: str) -> tuple[str, dict[str, str]]:
    """An address as git's arguments may show it to the list of processes, and what its environment adds.

    Source: git-config(1), ``http.<url>.extraHeader`` and ``GIT_CONFIG_COUNT``.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, {}  # git says what is wrong with it
    if parts.scheme not in ("http", "https") or not parts.password:
        return url, {}
    user = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
    host = parts.netloc.rpartition("@")[2]
    given = os.environ.get("GIT_CONFIG_COUNT", "")
    count = int(given) if given.isdecimal() else 0
    return parts._replace(netloc=host).geturl(), {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"http.{parts.scheme}://{host}/.extraHeader",
        f"GIT_CONFIG_VALUE_{count}": f"Authorization: Basic {base64.b64encode(user.encode()).decode()}",
    }


def _check_local(local: Path, source: Source) -> None:
    """Tell what git would tell of a path in words of its own."""
    if local.is_file() and local.suffix != ".bundle":
        raise NotFound(f"{source.shown} is a file", hint="Name a folder, or a repository of git.")
    is_repository = (local / ".git").exists() or (local / "HEAD").is_file()
    if not local.is_dir() or is_repository:
        return
    if source.ref:
        raise NotFound(f"{source.shown} is no repository of git, so it has no '{source.ref}'")
    if not (local / TEMPLATES).is_dir():
        hint = "It is no repository of git either."
        raise NotFound(f"{source.shown} has no {TEMPLATES}/<name>/{FILE}", hint=hint)


def _git(*arguments: str, env: Mapping[str, str] = MappingProxyType({})) -> str:
    git = shutil.which("git")
    if git is None:
        raise NotFound("there is no git on this machine", hint="Install git, or pull from a folder.")
    try:
        done = subprocess.run(  # noqa: S603  # arguments are checked, and come after `--`
            [git, *arguments],
            env={**os.environ, **_GIT_ENV, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise NotFound(f"git {arguments[0]} took over {_GIT_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = without_password(lines[-1]) if lines else f"exit code {done.returncode}"
        is_missing = re.search(r"Remote branch .* not found|did not match|unable to read tree", said)
        hint = "See what there is: git ls-remote URL" if is_missing else None
        raise NotFound(f"git: {said}", hint=hint)
    return done.stdout


def _check(template: Path) -> None:
    """A template is files and folders: a link could lead anywhere."""
    size = 0
    for count, path in enumerate(template.rglob("*"), 1):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidBundle(
                f"template '{template.name}': {path.relative_to(template)} is a link or no file"
            )
        size += path.stat().st_size
        if count > _MAX_FILES or size > _LIMIT_BYTES:
            limit = f"{_MAX_FILES:,} files or {_LIMIT_BYTES >> 20} MiB"
            raise TooLarge(f"template '{template.name}' is over {limit}")
    read_pulled(template)


def _install(name: str, path: Path, folder: Path, meta: dict[str, str], is_overwriting: bool) -> Pulled:
    home = folder / TEMPLATES
    final = home / name
    if home.is_symlink() or (home.exists() and not home.is_dir()):
        raise InvalidRequest(
            f"./{TEMPLATES} is a link or no folder", hint="Move it away; nothing was written."
        )
    is_there = os.path.lexists(final)
    if is_there and not is_overwriting:
        return Pulled(name, is_new=False)
    home.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".pull-", dir=home))
    try:
        shutil.copytree(path, scratch / name)
        (scratch / name / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        if is_there:
            final.rename(scratch / "old")
        (scratch / name).rename(final)
    finally:
        remove_tree(scratch)
    return Pulled(name, is_new=True)
