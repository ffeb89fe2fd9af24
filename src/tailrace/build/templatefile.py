"""``template.yml``: what a template says about itself. Source: contract section 5."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from tailrace.errors import InvalidBundle

FILE = "template.yml"
OWN = "own"
_LIMIT_BYTES = 64 * 1024
# As written out: by YAML's aliases a file below the limit could name a hundred million.
_MAX_PACKAGES = 10_000


class BuildOption(msgspec.Struct, frozen=True):
    """A named set of system packages."""

    name: str
    packages: list[str] = []  # msgspec copies it


class TemplateFile(msgspec.Struct, frozen=True):
    """The keys of ``template.yml`` that have a meaning here; others are left alone.

    Attributes:
        tailrace: Ours: ``own`` runs the template's own server as it stands; a template's name of ours lets
            Tailrace's runtime serve the handler, whatever the template's server is.
    """

    language: str = ""
    fprocess: str = ""
    handler_folder: str = ""
    build_options: list[BuildOption] = []  # msgspec copies it
    tailrace: str = ""

    def packages(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """The system packages of these build options, each once.

        Raises:
            InvalidBundle: the template has no such option; the text names those it has.
        """
        known = {option.name: option.packages for option in self.build_options}
        for option in options:
            if option not in known:
                has = f"it has: {', '.join(known)}" if known else "it has none"
                raise InvalidBundle(f"template '{self.language}' has no build option '{option}'; {has}")
        return tuple(dict.fromkeys(package for option in options for package in known[option]))


def read_template_file(folder: Path) -> TemplateFile:
    """What the template in this folder says; nothing where it has no ``template.yml``.

    Raises:
        InvalidBundle: the file is over 64 KiB, or not what a ``template.yml`` is.
    """
    try:
        with (folder / FILE).open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return TemplateFile()
    except OSError as failed:
        raise InvalidBundle(f"{FILE} cannot be read: {failed.strerror}") from failed
    if len(data) > _LIMIT_BYTES:
        raise InvalidBundle(f"{FILE} is over {_LIMIT_BYTES // 1024} KiB")
    try:
        # Scalars as they stand in the file: no value is a number, null is the empty text.
        found = yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506  # it constructs nothing but texts
        if isinstance(found, dict):
            found = {key: value for key, value in found.items() if value != ""}
            _check_size(found.get("build_options"))
        return msgspec.convert(found or {}, TemplateFile)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as bad:
        raise InvalidBundle(f"{FILE} cannot be understood: {_in_a_line(bad)}") from None


def _check_size(options: object) -> None:
    tables = [option for option in options if isinstance(option, dict)] if isinstance(options, list) else []
    if sum(len(table.get("packages") or ()) for table in tables) > _MAX_PACKAGES:
        raise InvalidBundle(f"{FILE} names over {_MAX_PACKAGES:,} packages")


def _in_a_line(bad: Exception) -> str:
    if isinstance(bad, yaml.MarkedYAMLError) and bad.problem_mark is not None:
        return f"line {bad.problem_mark.line + 1}: {bad.problem or bad.context}"
    return " ".join(str(bad).split())
