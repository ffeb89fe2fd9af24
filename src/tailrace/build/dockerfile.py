"""A Dockerfile, read and never run: what its last stage sets, copies and would have run.

Read as far as a build context can be understood without Docker: ``ENV``, ``ARG``, ``WORKDIR``, ``COPY``,
``ADD`` of files, ``RUN`` (only told), along the stages that the last one stands on. Instructions with a
meaning for images alone (``USER``, ``EXPOSE``, ``HEALTHCHECK``, ...) are passed over.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tailrace.errors import InvalidBundle

FILE = "Dockerfile"
LIMIT_BYTES = 256 * 1024
_MAX_INSTRUCTIONS = 2000
_MAX_VALUE = 16 * 1024
# What a RUN would have done is only told, so its beginning is enough.
_MAX_RUN = 8 * 1024
_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)\s+(.*)", re.DOTALL)
_FROM = re.compile(r"(?:--platform=\S+\s+)?(\S+)(?:\s+[Aa][Ss]\s+(\S+))?\s*")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")
# A word of its own, as BuildKit has it: neither `<<<word` nor `$((1<<n))` begins a here-document.
_HEREDOC = re.compile(r"(?<!\S)\d*<<-?([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1(?!\S)")
# Of an ENV or ARG, where a dollar stands for itself: within single quotes, and after a backslash.
_LITERAL = re.compile(r"""("(?:\\.|[^"\\])*"|\\[^$])|('[^']*'|\\\$)""", re.DOTALL)
_VARIABLE = re.compile(
    r"\\(?P<escaped>\$)|\$(?:(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<braced>[A-Za-z_]\w*)(?:(?P<how>:?[-+])(?P<word>[^{}]*))?\})"
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A ``COPY`` of the context: from source, which may be a pattern, to an absolute target.

    A target that ends in a slash is a folder for files; what a folder holds goes into the target either way.
    """

    source: str
    target: str


@dataclass(slots=True)
class Dockerfile:
    """What the image of the last stage would be.

    Attributes:
        image: The image that its first stage begins with.
        env: Its variables. Those of the image it begins with are not known.
        workdir: Where its process would start.
        copies: What it takes from the context.
        foreign: Absolute targets of what it takes from other stages and images.
        runs: The commands it would run, without line ends.
        is_on_classic_watchdog: Whether a stage takes its watchdog from OpenFaaS's first one.
    """

    image: str = "scratch"
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    copies: list[Copy] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    is_on_classic_watchdog: bool = False


@dataclass(slots=True)
class _Stage:
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def parse_dockerfile(text: str, arguments: Mapping[str, str]) -> Dockerfile:
    """What the last stage of a Dockerfile comes to.

    Args:
        arguments: Build arguments; they win over the defaults of ``ARG``.
    Raises:
        InvalidBundle: it has no stage, over 2,000 instructions, or an instruction that cannot be read.
    """
    outside: dict[str, str] = {}  # ARG before the first FROM is only for FROM lines
    stages: dict[str, _Stage] = {}
    last: _Stage | None = None
    for word, rest in _instructions(text):
        if word == "FROM":
            matched = _FROM.fullmatch(_expand(rest, outside))
            if matched is None:
                raise InvalidBundle(f"{FILE}: 'FROM {rest[:80]}' cannot be read")
            last = _Stage(matched[1])
            stages[str(len(stages))] = last
            if matched[2]:
                stages[matched[2].lower()] = last
        elif last is not None:
            last.instructions.append((word, rest))
        elif word == "ARG":
            _set_argument(rest, arguments, outside)
    if last is None:
        raise InvalidBundle(f"{FILE} has no FROM, so it makes no image")
    chain = _chain(last, stages)
    result = Dockerfile(chain[0].base, is_on_classic_watchdog="classic-watchdog" in text)
    for stage in chain:
        _read_stage(stage, arguments, result)
    return result


def _chain(last: _Stage, stages: Mapping[str, _Stage]) -> list[_Stage]:
    """The stages that the last one stands on, first things first."""
    chain = [last]
    while (below := stages.get(chain[0].base.lower())) is not None and below not in chain:
        chain.insert(0, below)
    return chain


def _read_stage(stage: _Stage, arguments: Mapping[str, str], result: Dockerfile) -> None:
    known: dict[str, str] = {}
    for word, rest in stage.instructions:
        if word == "ARG":
            _set_argument(rest, arguments, known)
        elif word == "ENV":
            pairs = _env_pairs(rest)
            seen = known | result.env  # ENV wins over ARG
            result.env |= {key: _expand_word(value, seen) for key, value in pairs}
        elif word == "WORKDIR":
            result.workdir = posixpath.normpath(
                posixpath.join(result.workdir, _unquoted(_expand(rest, known | result.env)))
            )
        elif word in ("COPY", "ADD"):
            _read_copy(word, _expand(rest, known | result.env), result)
        elif word == "RUN":
            result.runs.append(" ".join(_expand(rest[:_MAX_RUN], known | result.env).split()))


def _read_copy(word: str, rest: str, result: Dockerfile) -> None:
    flags, rest = _flags(rest)
    if rest.startswith("["):
        try:
            paths = [str(path) for path in json.loads(rest)]
        except (ValueError, RecursionError):
            raise InvalidBundle(f"{FILE}: '{word} {rest[:80]}' cannot be read") from None
    else:
        paths = _split(rest, word)
    if len(paths) < 2:
        raise InvalidBundle(f"{FILE}: '{word} {rest[:80]}' names no target")
    *sources, last = paths
    target = posixpath.normpath(posixpath.join(result.workdir, last))
    if last.endswith("/") or posixpath.basename(last) in (".", ".."):
        target = f"{target.rstrip('/')}/"
    if "from" in flags or any("://" in source or source.startswith("<<") for source in sources):
        result.foreign.append(target)
        return
    result.copies += [Copy(source, target) for source in sources]


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Word and rest of each instruction, continued lines joined, comments and here-documents left out."""
    lines = iter(text.splitlines())
    count = 0
    for line in lines:
        whole = "".join(_continued(line, lines))
        matched = _INSTRUCTION.fullmatch(whole)
        if matched is None:
            continue  # ONBUILD and the like never stand alone; a word without a rest says nothing
        count += 1
        if count > _MAX_INSTRUCTIONS:
            raise InvalidBundle(f"{FILE} has over {_MAX_INSTRUCTIONS} instructions")
        word = matched[1].upper()
        if word in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(matched[2]):
                while (inner := next(lines, end)).strip() != end:
                    del inner
        yield word, matched[2].strip()


def _continued(line: str, lines: Iterator[str]) -> Iterator[str]:
    """The parts of one instruction that begins with line, taken from lines while they end in a backslash."""
    while True:
        is_blank = not line.strip() or line.lstrip().startswith("#")
        is_continued = line.rstrip().endswith("\\") and not is_blank
        if not is_blank:
            yield line.rstrip().removesuffix("\\") if is_continued else line
        following = next(lines, None) if is_continued else None
        while following is not None and (not following.strip() or following.lstrip().startswith("#")):
            following = next(lines, None)
        if following is None:
            return
        line = following


def _set_argument(rest: str, arguments: Mapping[str, str], known: dict[str, str]) -> None:
    for part in _split(_keep_literals(rest), "ARG"):
        name, equals, default = part.partition("=")
        if name in arguments:
            known[name] = arguments[name]
        elif equals:
            known[name] = _expand_word(default, known)


def _env_pairs(rest: str) -> list[tuple[str, str]]:
    """``ENV key=value ...``, or its older form ``ENV key the whole rest``."""
    key, blank, value = rest.partition(" ")
    if "=" not in key:
        return [(key, _unquoted(value.strip()))] if blank else []
    pairs = (part.partition("=") for part in _split(_keep_literals(rest), "ENV"))
    return [(name, value) for name, equals, value in pairs if equals]


def _split(rest: str, word: str) -> list[str]:
    """Words at blanks, with the quotes and backslashes that Dockerfiles have; ``$`` stays for `_expand`."""
    try:
        lexer = shlex.shlex(rest, posix=True, punctuation_chars=False)
        lexer.whitespace_split = True
        lexer.commenters = ""
        return list(lexer)
    except ValueError as bad:
        raise InvalidBundle(f"{FILE}: '{word} {rest[:80]}' cannot be read: {bad}") from None


def _flags(rest: str) -> tuple[dict[str, str], str]:
    found: dict[str, str] = {}
    while matched := _FLAG.match(rest):
        found[matched[1]] = matched[2] or ""
        rest = rest[matched.end() :]
    return found, rest


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _keep_literals(rest: str) -> str:
    """The text with a NUL for each dollar that stands for itself, for `_expand_word` to give back."""
    return _LITERAL.sub(lambda found: found[1] or found[2].lstrip("\\").replace("$", "\0"), rest)


def _expand_word(word: str, known: Mapping[str, str]) -> str:
    return _expand(word, known).replace("\0", "$")


def _expand(text: str, known: Mapping[str, str]) -> str:
    """The text with ``$NAME``, ``${NAME}``, ``${NAME:-word}`` and ``${NAME:+word}`` replaced."""

    left = _MAX_VALUE

    def replace(matched: re.Match[str]) -> str:
        nonlocal left
        value = _value(matched, known)
        left -= len(value)
        if left < 0:  # now: 256 KiB of variables can make gigabytes
            raise _too_long()
        return value

    expanded = _VARIABLE.sub(replace, text)
    if len(expanded) > _MAX_VALUE:
        raise _too_long()
    return expanded


def _value(matched: re.Match[str], known: Mapping[str, str]) -> str:
    if matched["escaped"]:
        return "$"
    value = known.get(matched["plain"] or matched["braced"], "")
    how = matched["how"] or ""
    if how.endswith("-"):
        return value or matched["word"]
    if how.endswith("+"):
        return matched["word"] if value else ""
    return value


def _too_long() -> InvalidBundle:
    return InvalidBundle(f"{FILE} makes a value of over {_MAX_VALUE:,} characters")
