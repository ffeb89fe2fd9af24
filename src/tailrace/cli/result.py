"""What a command came to, and the one renderer that prints it and picks the exit code.

Data goes to stdout, words about it to stderr. Exit codes: 0 done, 1 failed, 2 the command line is wrong,
130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TextIO

from tailrace.cli.terminal import paint_for
from tailrace.errors import InvalidRequest, InvalidUsage, PlatformError, TailraceError

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Result:
    """A command's outcome: ``text`` for a person, ``data`` for ``--json`` (what json.dumps takes).

    ``notes`` go to stderr either way.
    """

    text: str = ""
    data: object = None
    notes: tuple[str, ...] = ()
    exit_code: int = 0


def finish(result: Result, *, as_json: bool = False) -> NoReturn:
    """Print the result and leave with its exit code."""
    for note in result.notes:
        print_note(note)
    is_json = as_json and result.exit_code != INTERRUPTED  # of which nothing is known
    shown = json.dumps(result.data, indent=2) if is_json else _clean_lines(result.text, sys.stdout)
    if shown:
        sys.stdout.write(shown if shown.endswith("\n") else f"{shown}\n")
    sys.stdout.flush()
    raise SystemExit(result.exit_code)


def print_note(note: str) -> None:
    """A sentence for the person, on stderr."""
    paint = paint_for(sys.stderr, os.environ)
    print(f"{paint.yellow('note:')} {_clean_lines(note, sys.stderr)}", file=sys.stderr, flush=True)


def print_words(words: str) -> None:
    """What happens, while it does, on stderr."""
    print(_clean_lines(words, sys.stderr), file=sys.stderr, flush=True)


@contextmanager
def as_usage() -> Iterator[None]:
    """What is refused of a text from the command line is a mistake of the command line."""
    try:
        yield
    except InvalidRequest as refused:
        raise InvalidUsage(refused.message, hint=refused.hint) from refused


def exit_code_of(error: TailraceError) -> int:
    """What a command ends with that raised this."""
    return MISUSED if isinstance(error, InvalidUsage) else FAILED


def error_for(failed: BaseException) -> TailraceError | None:
    """What is told of a failure: it, or what a file, a folder or a home of this machine made of it.

    None for others, which are faults of ours.
    """
    if isinstance(failed, TailraceError):
        return failed
    if isinstance(failed, RuntimeError) and "home directory" in str(failed):  # Path.expanduser's
        return PlatformError("a path begins with '~', and this system knows no home folder for it")
    if not isinstance(failed, OSError):
        return None
    if failed.filename is not None:
        return PlatformError(f"'{failed.filename}' cannot be used: {failed.strerror}")
    if isinstance(failed, FileNotFoundError):  # os.getcwd's
        return PlatformError("the current folder is not there any more", hint="Go to one that is: cd FOLDER.")
    return None


def print_error(error: TailraceError) -> None:
    """Message and hint on stderr, the hint on a line of its own."""
    paint = paint_for(sys.stderr, os.environ)
    print(f"{paint.red('error:')} {_clean_lines(error.message, sys.stderr)}", file=sys.stderr)
    if error.hint:
        print(f"{paint.bold('hint:')} {_clean_lines(error.hint, sys.stderr)}", file=sys.stderr)
    sys.stderr.flush()


def run_async(work: Coroutine[object, object, Result]) -> Result:
    """Run a command's work; Ctrl-C ends it with exit code 130."""
    import asyncio

    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        return Result(exit_code=INTERRUPTED)


def _clean_lines(text: str, stream: TextIO) -> str:
    """The text for this stream: whatever came into it from elsewhere, no terminal obeys it."""
    paint = paint_for(stream, os.environ)
    return "\n".join(paint.clean(line) for line in text.split("\n"))
