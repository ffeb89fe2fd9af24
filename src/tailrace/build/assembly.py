"""Build contexts made from a template and a handler, as ``faas-cli build --shrinkwrap`` makes them."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path

from tailrace.build.bundle import FOLDER, walk
from tailrace.build.extract import check_name
from tailrace.build.templatefile import FILE, read_template_file
from tailrace.errors import InvalidBundle

# What faas-cli leaves out of a handler folder: its own output, and the templates beside the stack file.
_LEFT_OUT = frozenset(("build", "template"))


def assemble(
    template: Path | None, handler: Path, destination: Path, *, copies: Mapping[str, Path] | None = None
) -> None:
    """Make the build context of a function at destination, which must not exist.

    The template is copied, then the handler over it, at ``function/`` or where ``template.yml`` says.

    Args:
        template: None: the handler's folder is the whole context (``lang: dockerfile``).
        copies: Further folders or files by where they go inside the handler (``configuration.copy``).
    Raises:
        InvalidBundle: a folder cannot be packed, or ``template.yml`` names a place outside the context.
    """
    inside = destination
    if template is not None:
        _copy_tree(template, destination)
        folder = read_template_file(template).handler_folder or FOLDER
        inside = destination / relative_place(folder, f"{FILE}: handler_folder '{folder[:80]}'")
    _copy_tree(handler, inside, left_out=_LEFT_OUT)
    for place, source in (copies or {}).items():
        _copy_tree(source, inside / relative_place(place, f"'{place[:80]}'"))


def _copy_tree(source: Path, destination: Path, *, left_out: frozenset[str] = frozenset()) -> None:
    if source.is_file():
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, destination)
        return
    if not source.is_dir():
        raise InvalidBundle(f"'{source}' does not exist, or is neither a file nor a folder")
    for path, name in walk(source, with_modules=True):
        inside = name.removeprefix(FOLDER).removeprefix("/")
        if inside.partition("/")[0] in left_out:
            continue
        target = destination / inside
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            shutil.copy(path, target)
        else:
            raise InvalidBundle(f"'{path}' is neither a file nor a folder", hint="Move it out of the folder.")


def relative_place(text: str, what: str) -> str:
    """A place inside a build context, as a plain relative path; ``.`` is its top.

    Raises:
        InvalidBundle: it lies outside; the text begins with what.
    """
    plain = posixpath.normpath(text)
    if plain == ".":
        return plain
    try:
        check_name(plain)
    except InvalidBundle:
        raise InvalidBundle(f"{what} is not a place inside the build context") from None
    return plain
