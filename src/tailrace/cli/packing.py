"""From a function of the stack file to its bundle: its template, its handler, and what is copied in."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tailrace.build.assembly import assemble
from tailrace.build.bundle import Bundle, note_left_out, pack_folder
from tailrace.build.context import handler_process, pack_context, read_context
from tailrace.build.templatefile import OWN, read_template_file
from tailrace.build.templates import find_template, template_names
from tailrace.cli.stackfile import DOCKERFILE, StackFunction
from tailrace.errors import InvalidBundle

_PACKAGES = "ADDITIONAL_PACKAGE"


def pack_code(function: StackFunction, *, limit_bytes: int) -> tuple[Bundle, tuple[str, ...]]:
    """The function's bundle, and what the person should know. Blocks on the disk: call it off the loop.

    Raises:
        InvalidBundle, TooLarge: the folder cannot be packed, or cannot run without Docker.
    """
    try:
        return _pack_code(function, limit_bytes=limit_bytes)
    except OSError as failed:  # it may not be read, or an editor took its own file away just now
        raise InvalidBundle(f"'{failed.filename}' cannot be packed: {failed.strerror}") from failed


def _pack_code(function: StackFunction, *, limit_bytes: int) -> tuple[Bundle, tuple[str, ...]]:
    assert function.handler is not None  # the caller asks for functions with code
    process = None if function.lang else handler_process(function.fprocess, function.env)
    is_plain = function.template is None and function.lang in ("", *template_names())
    if is_plain and not function.copies:
        lang = function.lang or OWN
        packed = pack_folder(function.handler, lang=lang, limit_bytes=limit_bytes, process=process)
        return packed, note_left_out(function.handler)
    with tempfile.TemporaryDirectory(prefix="tailrace-build-") as folder:
        context_folder = Path(folder, "context")
        write_context(function, context_folder)
        left_out = note_left_out(function.handler, *function.copies.values(), context_folder)
        if process is not None:
            packed = pack_folder(context_folder, lang=OWN, limit_bytes=limit_bytes, process=process)
            return packed, left_out
        context = read_context(
            context_folder,
            arguments=build_arguments(function),
            fprocess=function.fprocess,
            as_it_stands=function.as_it_stands,
        )
        return pack_context(context, limit_bytes=limit_bytes), (*left_out, *context.notes)


def write_context(function: StackFunction, destination: Path) -> None:
    """The function's build context at destination, which must not exist.

    Raises:
        InvalidBundle: a folder cannot be packed.
    """
    assert function.handler is not None  # the caller asks for functions with code
    assemble(_template_folder(function), function.handler, destination, copies=function.copies)


def build_arguments(function: StackFunction) -> dict[str, str]:
    """What its Dockerfile's ``ARG`` get: build arguments, and the packages of its build options.

    Raises:
        InvalidBundle: the template has no such build option.
    """
    arguments = dict(function.build_args)
    folder = _template_folder(function)
    if function.build_options and folder is not None:
        packages = read_template_file(folder).packages(function.build_options)
        arguments[_PACKAGES] = " ".join([*arguments.get(_PACKAGES, "").split(), *packages])
    return arguments


def _template_folder(function: StackFunction) -> Path | None:
    if function.lang in ("", DOCKERFILE):
        return None
    return function.template or find_template(function.lang).path
