"""``stack.yaml`` as OpenFaaS has it: read, checked, and told about what has no meaning here yet.

Source: contract section 5. Every key of it is accepted; an unknown key is refused with the nearest known
one and its line; scalars keep their source text.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tailrace.cli.envsubst import substitute
from tailrace.cli.stackreader import Reader
from tailrace.cli.stacktemplates import PULL, read_templates
from tailrace.cli.yamltext import FILE_LIMIT_BYTES, Table, parse_yaml
from tailrace.errors import InvalidDeployment, InvalidUsage, NotFound, TailraceError
from tailrace.model import Resources
from tailrace.names import DEFAULT_NAMESPACE, FunctionName, is_function_label, is_secret_name

# The lang whose handler folder is the whole build context.
DOCKERFILE = "dockerfile"
# Where pulled templates lie, beside the stack file or in the current folder.
TEMPLATES = "template"
DEFAULT_NAMES = ("stack.yaml", "stack.yml")
_TOP = ("version", "provider", "functions", "configuration")
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")
# Of a build with a template's own server; the runtime's functions have none.
_OF_BUILDS = ("build_args", "build_options")
# Accepted because existing files have them; none changes anything here yet, and each is said once.
_NO_MEANING_YET = (
    "constraints",
    "limits",
    "requests",
    "readonly_root_filesystem",
    "build_secrets",
    "platforms",
)
_LANG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NO_EFFECT = "has no effect in Tailrace yet"
_NOT_NEEDED = "is not needed: request bodies are always complete before a Flask handler runs"
_FUNCTION = (
    "lang", "handler", "image", "namespace", "skip_build", "environment", "environment_file", "secrets",
    "labels", "annotations", "fprocess", *_OF_BUILDS, *_NO_MEANING_YET,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StackFunction:
    """One function of the file.

    Attributes:
        handler: None for a function that only names an image.
        lang: Empty for a handler that its ``fprocess`` runs.
        template: The folder of a pulled template; None: one of ours, or none.
        copies: What else goes into the handler's folder, by where it goes.
        as_it_stands: A template's own server is never replaced by the runtime.
    """

    name: FunctionName
    image: str
    lang: str = ""
    handler: Path | None = None
    fprocess: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False
    build_args: Mapping[str, str] = field(default_factory=dict)
    build_options: tuple[str, ...] = ()
    template: Path | None = None
    copies: Mapping[str, Path] = field(default_factory=dict)
    as_it_stands: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell about keys of the file. ``functions`` empty: about the file as a whole."""

    key: str
    words: str
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack file, read. ``read_from`` are all the files it came from.

    ``problems`` say, by a function's name, why its code is not found; they are told when it is selected.
    """

    path: Path
    functions: tuple[StackFunction, ...]
    gateway: str = ""
    notes: tuple[Note, ...] = ()
    read_from: tuple[Path, ...] = ()
    problems: Mapping[str, InvalidDeployment] = field(default_factory=dict)

    def notes_on(self, functions: Iterable[StackFunction]) -> tuple[str, ...]:
        """What to tell the person about these functions, and about the file as a whole."""
        names = {f.name.name for f in functions}
        told = []
        for note in self.notes:
            about = [name for name in note.functions if name in names]
            if about or not note.functions:
                where = f" (of {', '.join(about)})" if about else ""
                told.append(f"{self.path.name}: '{note.key}'{where} {note.words}")
        return tuple(told)

    def select(self, *, pattern: str | None = None, regex: str | None = None) -> tuple[StackFunction, ...]:
        """As `matching`, for those who need their code.

        Raises:
            InvalidDeployment: as `matching`, or the handler or the template of one of them is not there.
        """
        found = self.matching(pattern=pattern, regex=regex)
        for function in found:
            if (problem := self.problems.get(function.name.name)) is not None:
                raise problem
        return found

    def matching(self, *, pattern: str | None = None, regex: str | None = None) -> tuple[StackFunction, ...]:
        """The functions whose name matches the glob or the regular expression; all when neither is given.

        Raises:
            InvalidUsage: both are given, or the expression is none.
            InvalidDeployment: nothing matches.
        """
        if pattern is None and regex is None:
            return self.functions
        if pattern is not None and regex is not None:
            raise InvalidUsage("--filter and --regex exclude each other", hint="Give one of them.")
        if pattern is not None:
            found = [f for f in self.functions if fnmatch.fnmatchcase(f.name.name, pattern)]
        else:
            found = [f for f in self.functions if _compile(regex or "").search(f.name.name)]
        if not found:
            names = ", ".join(f"'{f.name.short}'" for f in self.functions)
            raise InvalidDeployment(f"no function of {self.path.name} matches; it has {names or 'none'}")
        return tuple(found)


def find_stack_file(given: str | None, folder: Path) -> Path:
    """The file that ``-f`` names, else stack.yaml or stack.yml in the folder.

    Raises:
        NotFound: there is none; the hint tells how to get one.
        InvalidDeployment: a URL was given, whose handler folders would be nowhere.
    """
    if given is not None:
        if "://" in given:
            raise InvalidDeployment(
                f"cannot read a stack file from {given}", hint="Download it first: curl -O, then -f FILE."
            )
        path = folder / Path(given).expanduser()
        if path.is_file():
            return path
        if path.exists():
            raise NotFound(f"{given} is a folder or a device; a stack file is a regular file")
        raise NotFound(f"there is no stack file {given}")
    for name in DEFAULT_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise NotFound(
        "there is no stack.yaml in this folder",
        hint="Make a function: tailrace new hello --lang python3-stream; or name a file: -f FILE.",
    )


def read_text(path: Path) -> str:
    """A small UTF-8 file's text.

    Raises:
        InvalidDeployment: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
        if len(data) > FILE_LIMIT_BYTES:
            raise InvalidDeployment(f"{path.name} is larger than {FILE_LIMIT_BYTES // 1024} KiB")
        return data.decode("utf-8-sig")
    except OSError as failed:
        raise InvalidDeployment(f"cannot read {path}: {failed.strerror}") from failed
    except UnicodeDecodeError as failed:
        raise InvalidDeployment(f"{path.name} is not UTF-8 text") from failed
    except ValueError as failed:
        raise InvalidDeployment(f"{str(path)!r} is the name of no file") from failed


def load_stack(path: Path, env: Mapping[str, str], *, expand: bool = True) -> Stack:
    """The stack file at path, with the environment files it names.

    Args:
        env: What ``${...}`` reads.
        expand: False leaves ``${...}`` as it is (``--envsubst=false``).
    Raises:
        InvalidDeployment: with the file, the line, what is wrong and what was expected.
    """
    return parse_stack(read_text(path), path, env, expand=expand)


def parse_stack(text: str, path: Path, env: Mapping[str, str], *, expand: bool = True) -> Stack:
    """As ``load_stack``, from the file's text. Handler and environment files are looked up beside path."""
    try:
        text = substitute(text, env) if expand else text
    except InvalidDeployment as bad:
        raise InvalidDeployment(f"{path.name} {bad.message}", hint=bad.hint) from None
    return _StackReader(path).read(text)


class _StackReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = Reader(path.name)
        self._files = [path]
        self._copies: dict[str, Path] = {}
        self._templates: dict[str, str] = {}
        self._problems: dict[str, InvalidDeployment] = {}
        # Key and words of a note, and the functions it is about.
        self._notes: dict[tuple[str, str], list[str]] = {}

    def read(self, text: str) -> Stack:
        r = self._reader
        top = r.table(parse_yaml(text, source=self._path.name), "the stack file")
        r.check_keys(top, _TOP, "a stack file")
        if (version := r.text(top, "version")) not in ("", "1.0"):
            raise r.refuse(
                top.lines["version"], f"version '{version}' is not known; leave it out or write 1.0"
            )
        gateway = self._read_provider(top)
        self._read_configuration(top)
        functions = r.subtable(top, "functions")
        if not functions.items:
            add = f"tailrace new NAME --append {self._path.name}"
            raise r.refuse(top.line, f"there are no functions; add one with: {add}")
        found = tuple(self._read_function(functions, name) for name in functions.items)
        return Stack(self._path, found, gateway, self._told(), tuple(self._files), self._problems)

    def _read_provider(self, top: Table) -> str:
        r = self._reader
        provider = r.subtable(top, "provider")
        r.check_keys(provider, ("name", "gateway"), "provider")
        if (name := r.text(provider, "name")) != "openfaas":
            found = f"provider.name is '{name}'" if name else "provider.name is missing"
            raise r.refuse(provider.line, f"{found}; it must be 'openfaas'")
        return r.text(provider, "gateway")

    def _read_configuration(self, top: Table) -> None:
        r = self._reader
        configuration = r.subtable(top, "configuration")
        r.check_keys(configuration, ("templates", "copy"), "configuration")
        self._templates = read_templates(configuration, r)
        for text in r.texts(configuration, "copy"):
            self._read_copy(text, configuration.lines["copy"])

    def _read_copy(self, text: str, line: int) -> None:
        """A file or folder below the stack file's own folder, which goes to the same place in handlers."""
        top = self._path.parent.absolute()
        path = Path(os.path.normpath(top / text))
        if path == top or not path.is_relative_to(top):
            raise self._reader.refuse(
                line, f"'{text}' in 'copy' is not inside the folder of {self._path.name}"
            )
        if not path.exists():
            raise self._reader.refuse(line, f"'{text}' in 'copy' does not exist")
        self._copies[str(path.relative_to(top))] = path

    def _read_function(self, functions: Table, name: str) -> StackFunction:
        r = self._reader
        if not is_function_label(name):
            raise r.refuse(
                functions.lines[name], f"function name '{name}' must be 1 to 63 of a-z, 0-9 and '-'"
            )
        table = r.subtable(functions, name)
        r.check_keys(table, _FUNCTION, "a function")
        self._note_all(table, _NO_MEANING_YET, _NO_EFFECT, name)
        namespace = r.text(table, "namespace") or DEFAULT_NAMESPACE
        if not is_function_label(namespace):
            raise r.refuse(table.lines["namespace"], f"namespace '{namespace}' is no valid name")
        r.texts_by_key(table, "build_secrets")
        lang, handler, template = self._read_code(table, name)
        if handler is None or not lang:
            self._note_all(table, _OF_BUILDS, "has no effect where nothing is built", name)
        elif template is None and lang and lang != DOCKERFILE:
            words = f"has no effect: Tailrace's own runtime serves {lang}"
            self._note_all(table, ("fprocess", *_OF_BUILDS), words, name)
        return StackFunction(
            name=FunctionName(name, namespace),
            image=r.text(table, "image") or f"{name}:latest",
            lang=lang,
            handler=handler,
            fprocess=r.text(table, "fprocess"),
            env=self._read_env(table, name),
            secrets=self._read_secrets(table),
            constraints=r.texts(table, "constraints"),
            labels=r.texts_by_key(table, "labels"),
            annotations=r.texts_by_key(table, "annotations"),
            limits=self._read_resources(table, "limits"),
            requests=self._read_resources(table, "requests"),
            read_only_root_filesystem=r.flag(table, "readonly_root_filesystem"),
            build_args=r.texts_by_key(table, "build_args", pairs=True),
            build_options=r.texts(table, "build_options"),
            template=template,
            copies=self._copies if handler is not None else {},
        )

    def _read_code(self, table: Table, name: str) -> tuple[str, Path | None, Path | None]:
        """Its lang, its handler's folder, and the folder of a pulled template."""
        r = self._reader
        lang, handler = r.text(table, "lang"), r.text(table, "handler")
        if r.flag(table, "skip_build") or (not lang and not handler):
            if not r.text(table, "image"):
                raise r.refuse(table.line, f"function '{name}' needs lang and handler, or an image")
            return lang, None, None
        if not handler or not (lang or r.text(table, "fprocess")):
            missing = "handler" if not handler else "lang, and no fprocess"
            raise r.refuse(table.line, f"function '{name}' has no {missing}")
        template = None
        try:
            template = self._find_template(lang, table.lines["lang"]) if lang else None
        except InvalidDeployment as missing:
            self._problems[name] = missing
        folder = (self._path.parent / Path(handler).expanduser()).absolute()
        if not folder.is_dir():
            problem = r.refuse(table.lines["handler"], f"the handler of '{name}' is no folder: {handler}")
            self._problems.setdefault(name, problem)
        return lang, folder, template

    def _find_template(self, lang: str, line: int) -> Path | None:
        """The pulled template of this name; None when there is none, and it is ours or a Dockerfile."""
        from tailrace.build.templates import find_template

        if lang == DOCKERFILE:
            return None
        if _LANG.fullmatch(lang):
            for beside in (self._path.parent, Path.cwd()):
                if (beside / TEMPLATES / lang).is_dir():
                    return (beside / TEMPLATES / lang).absolute()
        try:
            find_template(lang)
        except TailraceError as bad:
            how = PULL if lang in self._templates else f"tailrace template store pull {lang}"
            pull = f"Or pull it into ./{TEMPLATES}/{lang} first: {how}"
            hint = f"{bad.hint} {pull}" if bad.hint else pull
            raise self._reader.refuse(line, bad.message, hint=hint) from None
        return None

    def _read_env(self, table: Table, name: str) -> dict[str, str]:
        r = self._reader
        env = r.texts_by_key(table, "environment")
        for file in r.texts(table, "environment_file"):
            path = (self._path.parent / Path(file).expanduser()).absolute()
            self._files.append(path)
            reader = Reader(file)
            top = reader.table(parse_yaml(read_text(path), source=file), "an environment file")
            reader.check_keys(top, ("environment",), "an environment file")
            env.update(reader.texts_by_key(top, "environment"))
        if {"buffer_body", "http_buffer_req_body"} & env.keys():
            self._note("buffer_body", _NOT_NEEDED, name)
        return env

    def _read_secrets(self, table: Table) -> tuple[str, ...]:
        names = self._reader.texts(table, "secrets")
        for name in names:
            if not is_secret_name(name):
                raise self._reader.refuse(table.lines["secrets"], f"'{name}' is no valid secret name")
        return names

    def _read_resources(self, table: Table, key: str) -> Resources | None:
        r = self._reader
        if key not in table.items:
            return None
        found = r.subtable(table, key)
        r.check_keys(found, ("memory", "cpu", *_GPUS), key)
        return Resources(memory=r.text(found, "memory"), cpu=r.text(found, "cpu"))

    def _note_all(self, table: Table, keys: Iterable[str], words: str, function: str) -> None:
        for key in keys:
            if key in table.items:
                self._note(key, words, function)

    def _note(self, key: str, words: str, function: str) -> None:
        self._notes.setdefault((key, words), []).append(function)

    def _told(self) -> tuple[Note, ...]:
        return tuple(Note(key, words, tuple(names)) for (key, words), names in self._notes.items())


def _compile(regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except re.error as bad:
        raise InvalidUsage(f"--regex '{regex}' is no regular expression: {bad}") from None
