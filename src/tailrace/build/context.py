"""What a build context means without Docker: a handler for a runtime of ours, or a process of its own.

A context is a folder as ``faas-cli build --shrinkwrap`` makes it: a template with the handler inside. Nothing
of it is run to find out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tailrace.build import dockerfile, stock, templatefile
from tailrace.build.assembly import relative_place
from tailrace.build.bundle import (
    FOLDER,
    HANDLERS,
    REQUIREMENTS_FILE,
    Bundle,
    Process,
    check_process,
    pack_folder,
)
from tailrace.build.dockerfile import Dockerfile, parse_dockerfile
from tailrace.build.layout import find_copies, local_path, make_copies
from tailrace.build.runs import other_commands, system_packages
from tailrace.build.templatefile import TemplateFile, read_template_file
from tailrace.build.templates import Kind, find_template, template_names
from tailrace.errors import InvalidBundle, InvalidDeployment

# What a stock Python template has beside the handler. Anything more is somebody's own.
_STOCK_ENTRIES = frozenset(
    {
        FOLDER, dockerfile.FILE, templatefile.FILE, "index.py", "requirements.txt", "README.md",
        ".dockerignore", ".gitignore",
    }
)  # fmt: skip
_STOCK_PACKAGES = frozenset(("flask", "waitress", "tox", "gevent", "werkzeug"))
_STOCK_ENV = frozenset(("PATH", "PYTHONPATH", "cgi_headers", "fprocess", "mode", "upstream_url"))
# Variables that are told otherwise, or are about an image's own folders and port.
_NOT_PASSED = frozenset(
    {
        "PATH", "HOME", "HOSTNAME", "port", "mode", "fprocess", "function_process", "upstream_url",
        "http_upstream_url",
    }
)  # fmt: skip
_SEARCH_PATHS = ("PYTHONPATH", "NODE_PATH", "static_path")
_SERVES = re.compile(r"\bserve\(|\.run\(|\buvicorn\b|\bhypercorn\b|make_server|HTTPServer|WSGIServer")
_PORT = re.compile(r"\bport\s*=\s*(\d{2,5})\b")
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
_BY_A_STAGE = "a stage of its Dockerfile makes it, and none is run"
_SYSTEM_FOLDERS = ("/bin/", "/sbin/", "/usr/", "/opt/")
_PACKAGES_ARGUMENT = "ADDITIONAL_PACKAGE"
_SHOWN_COMMANDS = 5
_MAX_VARIABLES = 200


@dataclass(frozen=True, slots=True)
class Context:
    """What a build context means.

    Attributes:
        lang: The template; with a ``process`` it only says where that came from.
        folder: What is packed.
        process: How its own process runs; None: the runtime serves the handler in folder.
        copies: Files to copy inside folder first: from and to, relative to it.
        notes: What the person should know, a sentence each.
    """

    lang: str
    folder: Path
    process: Process | None
    copies: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_context(
    folder: Path,
    *,
    arguments: Mapping[str, str],
    fprocess: str = "",
    as_it_stands: bool = False,
    known: dict[str, Kind] | None = None,
) -> Context:
    """What the build context in this folder means. Reads files, and runs nothing.

    Args:
        arguments: Build arguments, for the Dockerfile's ``ARG``.
        fprocess: The command where neither the Dockerfile nor ``template.yml`` names one.
        as_it_stands: Never put the runtime in the place of a template's own server.
        known: Fingerprints of stock servers; None is `stock.STOCK`.
    Raises:
        InvalidBundle: it cannot run without Docker; the text says what is missing and what to do.
    """
    template = read_template_file(folder)
    text = _read_text(folder / dockerfile.FILE, dockerfile.LIMIT_BYTES)
    image = parse_dockerfile(text, arguments) if text is not None else None
    ours, why = _choose(folder, template, image, known)
    notes = _notes_on_arguments(arguments)
    if ours and not (as_it_stands and why):
        served = [f"template '{ours}': Tailrace's runtime serves the handler{why}"] if why else []
        return Context(ours, folder / FOLDER, None, notes=(*served, *notes))
    context = _read_process(folder, template, image, fprocess)
    notes = (*_notes_on_runs(image), *notes)
    if template.language in template_names():
        because = why if not ours else ": as asked"
        notes = (f"template '{template.language}' runs as it stands, under the watchdog{because}", *notes)
    return replace(context, notes=notes)


def pack_context(context: Context, *, limit_bytes: int) -> Bundle:
    """The bundle of a context that was read. Its own copies are made inside its folder.

    Raises:
        InvalidBundle, TooLarge: as `pack_folder`.
    """
    make_copies(context.folder, context.copies, limit_bytes=limit_bytes)
    return pack_folder(context.folder, lang=context.lang, limit_bytes=limit_bytes, process=context.process)


def _choose(
    folder: Path, template: TemplateFile, image: Dockerfile | None, known: dict[str, Kind] | None
) -> tuple[str, str]:
    """The template of ours whose runtime may serve the handler ('' for none), and why.

    No reason is needed where there is no other server.
    """
    if template.tailrace == templatefile.OWN:
        return "", f": {templatefile.FILE} says so"
    if template.tailrace:
        try:
            return find_template(template.tailrace).name, f", as {templatefile.FILE} says"
        except InvalidDeployment as bad:
            raise InvalidBundle(f"{templatefile.FILE}: tailrace: {bad.message}", hint=bad.hint) from None
    if template.language not in template_names():
        return "", ""
    index = _read_text(folder / "index.py", dockerfile.LIMIT_BYTES)
    if index is None:  # of ours: it has no server of its own
        return (template.language, "") if image is None else ("", ": it has no index.py")
    if not any((folder / handler).is_file() for handler in HANDLERS):
        return "", f": it has no {HANDLERS[0]}"
    if stock.kind_of(index, known) != find_template(template.language).kind:
        return "", ": its index.py is not one that is known to be stock"
    return _unless_changed(folder, template.language, image)


def _unless_changed(folder: Path, language: str, image: Dockerfile | None) -> tuple[str, str]:
    more = sorted(entry.name for entry in folder.iterdir() if entry.name not in _STOCK_ENTRIES)
    if more:
        return "", f": it has a file of its own, {more[0]}"
    lines = (_read_text(folder / REQUIREMENTS_FILE, dockerfile.LIMIT_BYTES) or "").splitlines()
    for line in lines:
        name = re.match(r"\s*([A-Za-z0-9._-]*)", line)
        if name and name[1] and name[1].lower() not in _STOCK_PACKAGES:
            return "", f": its requirements.txt asks for {name[1]}"
    for variable in image.env if image else ():
        if variable not in _STOCK_ENV:
            return "", f": its Dockerfile sets {variable}"
    return language, ", instead of its index.py: as many streams at once as memory allows"


def handler_process(fprocess: str, env: Mapping[str, str]) -> Process:
    """The process of a handler folder that a stack file gives an ``fprocess`` and no ``lang``."""
    url = env.get("upstream_url", "") or env.get("http_upstream_url", "")
    mode = env.get("mode", "") or ("http" if url else "streaming")
    return Process(fprocess, mode=mode, upstream_url=url, requirements=(REQUIREMENTS_FILE,))


def _read_process(folder: Path, template: TemplateFile, image: Dockerfile | None, fallback: str) -> Context:
    env = dict(image.env) if image else {}
    fprocess = env.get("fprocess") or env.get("function_process") or template.fprocess or fallback
    url = env.get("upstream_url") or env.get("http_upstream_url") or ""
    if not url and "mode" not in env:
        url = _served_url(folder, fprocess)
    mode = env.get("mode") or ("http" if url else _default_mode(image))
    if not fprocess.strip() and mode != "static":
        raise _without_fprocess(image)
    image = image or Dockerfile()
    process = Process(
        fprocess=" ".join(local_path(word, image.workdir) for word in fprocess.split()),
        mode=mode,
        upstream_url=url,
        env=_variables(env, image.workdir),
        requirements=_requirement_files(folder, template, fprocess),
    )
    check_process(process)
    if mode == "http" and not process.upstream_url:
        raise InvalidBundle(
            "mode is 'http', and nothing says where the process listens",
            hint="Add to the Dockerfile: ENV upstream_url=http://127.0.0.1:5000",
        )
    copies = find_copies(folder, image)
    _check_program(folder, process, copies, image)
    _check_npm(folder, process)
    lang = template.language if 0 < len(template.language) <= 64 else "dockerfile"
    return Context(lang, folder, process, copies)


def _served_url(folder: Path, fprocess: str) -> str:
    """Where a template's ``index.py`` listens that nothing else tells of; '' when it is no server."""
    words = fprocess.split(" ")
    if len(words) != 2 or not _PYTHON.fullmatch(words[0]) or words[1] != "index.py":
        return ""
    index = _read_text(folder / "index.py", dockerfile.LIMIT_BYTES) or ""
    if not _SERVES.search(index):
        return ""
    port = _PORT.search(index)
    return f"http://127.0.0.1:{port[1] if port else 5000}"


def _default_mode(image: Dockerfile | None) -> str:
    """of-watchdog streams; OpenFaaS's first watchdog answered once the process had ended."""
    return "serializing" if image and image.is_on_classic_watchdog else "streaming"


def _without_fprocess(image: Dockerfile | None) -> InvalidBundle:
    where = "its Dockerfile sets none" if image else "it has no Dockerfile, and its template.yml names none"
    return InvalidBundle(
        f"nothing says which command answers calls: {where}",
        hint="Images are not run here, only processes are. Name the command, with the watchdog's variables: "
        'ENV fprocess="python index.py" mode="http" upstream_url="http://127.0.0.1:5000"',
    )


def _variables(env: Mapping[str, str], workdir: str) -> dict[str, str]:
    passed = {key: value for key, value in env.items() if key not in _NOT_PASSED}
    for key in _SEARCH_PATHS:
        if key in passed:
            passed[key] = ":".join(local_path(part, workdir) for part in passed[key].split(":"))
    if len(passed) > _MAX_VARIABLES:
        raise InvalidBundle(f"the Dockerfile sets {len(passed)} variables; at most {_MAX_VARIABLES} are kept")
    return passed


def _requirement_files(folder: Path, template: TemplateFile, fprocess: str) -> tuple[str, ...]:
    place = relative_place(template.handler_folder or FOLDER, f"{templatefile.FILE}: its handler_folder")
    places = (
        REQUIREMENTS_FILE,
        posixpath.join(place, REQUIREMENTS_FILE) if place != "." else REQUIREMENTS_FILE,
    )
    found = tuple(dict.fromkeys(place for place in places if (folder / place).is_file()))
    is_python = _PYTHON.fullmatch(fprocess.split(" ")[0]) is not None
    return found or ((REQUIREMENTS_FILE,) if is_python else ())  # one that is not there asks for nothing


def _check_program(
    folder: Path, process: Process, copies: Sequence[tuple[str, str]], image: Dockerfile
) -> None:
    """A program or script that the context should hold is there: not where a stage of the image makes it."""
    words = process.fprocess.split(" ")
    is_script = (
        len(words) > 1 and words[1].endswith((".py", ".js", ".mjs", ".sh")) and words[1][0] not in "-/"
    )
    program = words[0] if "/" in words[0] else words[1] if is_script else ""
    if program.startswith("/") and _is_foreign(program, image):
        name = posixpath.basename(program)
        raise InvalidBundle(
            f"the context does not hold '{program}', which fprocess names: {_BY_A_STAGE}",
            hint=f"Put it into the folder as {name}, built where it has to be, with fprocess ./{name}.",
        )
    if not program or program.startswith("/"):
        return
    name = posixpath.normpath(program)
    copied = [folder / source / posixpath.relpath(name, to or ".") for source, to in copies]
    if (folder / name).is_file() or any(path.is_file() for path in copied):
        return
    why = _BY_A_STAGE if image.foreign else "it is not there"
    raise InvalidBundle(
        f"the context does not hold '{program}', which fprocess names: {why}",
        hint=f"Put it into the folder as {name}, built where it has to be, and build again.",
    )


def _is_foreign(program: str, image: Dockerfile) -> bool:
    """Whether a stage puts it there; where systems have their programs, this machine may have the same."""
    folder = f"{posixpath.dirname(program).rstrip('/')}/"
    return not folder.startswith(_SYSTEM_FOLDERS) and not {program, folder}.isdisjoint(image.foreign)


def _check_npm(folder: Path, process: Process) -> None:
    if process.fprocess.split(" ")[0] not in ("node", "npm", "npx", "bun", "deno"):
        return
    for place in (folder, folder / FOLDER):
        text = _read_text(place / "package.json", dockerfile.LIMIT_BYTES)
        has_modules = (folder / "node_modules").is_dir() or (place / "node_modules").is_dir()
        if text and re.search(r'"dependencies"\s*:\s*\{\s*"', text) and not has_modules:
            where = "the template's folder" if place == folder else "the handler's folder"
            raise InvalidBundle(
                f"package.json of {where} asks for packages, and they are not beside it",
                hint=f"Run npm install in {where} and build again: node_modules is packed, npm is not run.",
            )


def _notes_on_runs(image: Dockerfile | None) -> Iterator[str]:
    runs = image.runs if image else []
    if packages := system_packages(runs):
        yield (
            f"system packages are not installed: {', '.join(packages)}. What the function needs of them "
            "has to be on the gateway's machine"
        )
    commands = other_commands(runs)
    for command in commands[:_SHOWN_COMMANDS]:
        yield f"the Dockerfile's RUN is not run: {command[:120]}"
    if len(commands) > _SHOWN_COMMANDS:
        yield f"and {len(commands) - _SHOWN_COMMANDS} more of its commands are not run"


def _notes_on_arguments(arguments: Mapping[str, str]) -> tuple[str, ...]:
    notes = []
    if packages := arguments.get(_PACKAGES_ARGUMENT, "").split():
        notes.append(f"system packages are not installed: {', '.join(packages)[:300]}")
    if python := arguments.get("PYTHON_VERSION"):
        notes.append(f"PYTHON_VERSION={python[:20]} is not used: functions run on the gateway's Python")
    return tuple(notes)


def _read_text(path: Path, limit_bytes: int) -> str | None:
    """The file's text; None when there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    if len(data) > limit_bytes:
        raise InvalidBundle(f"{path.name} is over {limit_bytes // 1024} KiB")
    return data.decode("utf-8", "replace")
