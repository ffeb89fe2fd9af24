"""Build contexts, as ``faas-cli build --shrinkwrap`` makes them, and what they mean here.

    template/<lang>/{template.yml, Dockerfile, index.py, requirements.txt, function/} + the handler

A context of one of our templates, with that template's usual server, becomes a handler for our own runtime.
Any other becomes a process that runs as it stands under the watchdog. Nothing in it is run to find that out.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tailrace.build.bundle import FOLDER, Bundle, Process, pack_folder
from tailrace.build.dockerfile import read_env
from tailrace.build.templates import template_names
from tailrace.errors import InvalidBundle

_FILE_LIMIT = 256 * 1024
_SKIPPED = shutil.ignore_patterns("build", "template", ".git", "__pycache__")
# What the usual server of a Python template imports; one that imports more does more, and runs as it stands.
_USUAL = frozenset({"flask", "waitress", "function", "os", "sys", "json"})
_UNUSUAL = re.compile(
    r"before_request|after_request|teardown|errorhandler|register_blueprint|wsgi_app|url_rule|Middleware|CORS"
)
_SERVES = re.compile(r"\bserve\(|\.run\(|uvicorn|hypercorn|make_server|HTTPServer")
_PORT = re.compile(r"\bport\s*=\s*(\d{2,5})\b")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a context is here: the folder that is packed, by which template, or with which process."""

    folder: Path
    lang: str
    process: Process | None
    words: str

    def pack(self, *, limit_bytes: int) -> Bundle:
        """The context as a bundle. Raises as `pack_folder` does."""
        return pack_folder(self.folder, lang=self.lang, limit_bytes=limit_bytes, process=self.process)


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """What ``template.yml`` says, as far as it is read here. ``is_own``: ``tailrace: own`` stands in it."""

    language: str = ""
    fprocess: str = ""
    handler_folder: str = FOLDER
    is_own: bool = False


def assemble(template: Path, handler: Path, destination: Path, copies: Iterable[Path] = ()) -> None:
    """Make a build context: the template, with the handler's folder laid over it.

    Args:
        destination: Must not exist.
        copies: Folders that are copied into the handler's (``configuration.copy`` of a stack file).
    Raises:
        InvalidBundle: a file cannot be read, or template.yml is none.
    """
    place = destination / read_template(template).handler_folder
    try:
        shutil.copytree(template, destination, ignore=_SKIPPED)
        shutil.copytree(handler, place, dirs_exist_ok=True, ignore=_SKIPPED)
        for folder in copies:
            shutil.copytree(folder, place / folder.name, dirs_exist_ok=True, ignore=_SKIPPED)
    except (OSError, shutil.Error) as failed:
        raise InvalidBundle(f"a build context cannot be made of '{handler}': {failed}") from failed


def read_template(folder: Path) -> TemplateFile:
    """The folder's ``template.yml``; empty when there is none.

    Raises:
        InvalidBundle: it is no YAML of that shape.
    """
    text = _read(folder / "template.yml")
    if text is None:
        return TemplateFile()
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as failed:
        raise InvalidBundle(f"template.yml is no YAML: {failed}") from failed
    if not isinstance(found, dict):
        raise InvalidBundle("template.yml is expected to be a map with language and fprocess")
    texts = {key: found.get(key) or "" for key in ("language", "fprocess", "handler_folder", "tailrace")}
    if not all(isinstance(value, str) for value in texts.values()):
        raise InvalidBundle("language, fprocess and handler_folder of template.yml are expected to be texts")
    place = texts["handler_folder"] or FOLDER
    if place.startswith("/") or ".." in place.split("/"):
        raise InvalidBundle(f"handler_folder '{place[:80]}' of template.yml leads out of the template")
    return TemplateFile(texts["language"], texts["fprocess"], place, texts["tailrace"] == "own")


def read_context(folder: Path) -> Meaning:
    """What a complete build context means.

    Raises:
        InvalidBundle: nothing here can run it; the text says what is missing and what to do.
    """
    template = read_template(folder)
    index = _read(folder / "index.py")
    lang = template.language.lower()
    if lang in template_names() and not template.is_own and (index is None or is_usual(index)):
        place = folder / template.handler_folder
        return Meaning(place, lang, None, f"a handler for Tailrace's own runtime ({lang}), which streams")
    env = read_env(_read(folder / "Dockerfile") or "")
    command = env.pop("fprocess", "") or template.fprocess or env.pop("function_process", "")
    if not command:
        raise InvalidBundle(
            "the build context names no fprocess, neither in template.yml nor in its Dockerfile",
            hint="It needs a container, which this provider does not run. Name the command: fprocess: ...",
        )
    process = _process_of(folder, command, env, index)
    return Meaning(folder, lang or "own", process, f"its own process under the watchdog: {command}")


def is_usual(index: str) -> bool:
    """Whether an ``index.py`` is the usual server of a Python template, which our runtime takes the place of.

    It imports the handler, Flask and waitress and adds nothing to what they do.
    """
    try:
        tree = ast.parse(index)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    return "function" in imported and imported <= _USUAL and not _UNUSUAL.search(index)


def handler_process(fprocess: str, env: dict[str, str]) -> Process:
    """The process of a handler folder that a stack file gives an ``fprocess`` and no ``lang``."""
    url = env.get("upstream_url", "") or env.get("http_upstream_url", "")
    mode = env.get("mode", "") or ("http" if url else "streaming")
    return Process(fprocess, mode=mode, upstream_url=url, requirements=("requirements.txt",))


def _process_of(folder: Path, command: str, env: dict[str, str], index: str | None) -> Process:
    _check_program(folder, command)
    _check_node_modules(folder)
    env = {key: value for key, value in env.items() if key.lower() not in ("path", "home", "pythonpath")}
    url = env.pop("upstream_url", "") or env.pop("http_upstream_url", "")
    mode = env.pop("mode", "")
    is_python = command.split()[0].startswith("python")
    if not mode and not url and is_python and index is not None and _SERVES.search(index):
        port = _PORT.search(index)
        url = f"http://127.0.0.1:{port[1] if port else 5000}"
    files = ("requirements.txt", f"{FOLDER}/requirements.txt") if is_python else ()
    found = tuple(file for file in files if (folder / file).is_file())
    return Process(command, mode or ("http" if url else "streaming"), url, env, found)


def _check_program(folder: Path, command: str) -> None:
    """A program that a RUN line would make is not there: say so now."""
    program = command.split()[0]
    if "/" in program and not program.startswith("/") and not (folder / program).exists():
        raise InvalidBundle(
            f"fprocess '{program}' is not in the build context: a RUN line of its Dockerfile makes it",
            hint="Nothing of a Dockerfile is run here. Build the program first and put it into the folder.",
        )


def _check_node_modules(folder: Path) -> None:
    for package in (folder / "package.json", folder / FOLDER / "package.json"):
        text = _read(package)
        if text is None or (package.parent / "node_modules").is_dir():
            continue
        try:
            wanted = json.loads(text).get("dependencies")
        except (ValueError, AttributeError):
            continue
        if wanted and not (folder / "node_modules").is_dir():
            name = package.relative_to(folder)
            raise InvalidBundle(
                f"{name} has dependencies, and node_modules is not in the build context",
                hint="Run npm install in the template and the handler's folder, then build again.",
            )


def _read(path: Path) -> str | None:
    """A small text file; None when there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        text = data.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as failed:
        raise InvalidBundle(f"{path.name} cannot be read: {failed}") from failed
    if len(data) > _FILE_LIMIT:
        raise InvalidBundle(f"{path.name} is larger than {_FILE_LIMIT // 1024} KiB")
    return text
