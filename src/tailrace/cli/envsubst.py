"""``${VAR:-default}`` in a stack file, with the forms OpenFaaS's files may use. Pure.

Only braces substitute: a bare ``$VAR`` stays, ``$$`` is one ``$``, an unset variable is empty.
Source: contract section 5 (the forms); in patterns ``*`` and ``?`` stop at ``/``, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tailrace.errors import InvalidDeployment

# Values may hold substitutions of their own; nobody nests them deeper by hand.
_MAX_DEPTH = 16
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[-+]?[0-9]{1,9}")


def substitute(text: str, env: Mapping[str, str]) -> str:
    """The text with every ``${...}`` replaced.

    Raises:
        InvalidDeployment: a ``${`` without its brace or of an unknown form; the text names the line.
    """
    return _Substitution(text, env).run()


class _Substitution:
    def __init__(self, text: str, env: Mapping[str, str]) -> None:
        self._text = text
        self._env = env
        self._at = 0

    def run(self) -> str:
        return self._read_until("", depth=0)

    def _read_until(self, stops: str, *, depth: int) -> str:
        """Text up to one of the stop characters (not consumed), with what is inside replaced."""
        parts: list[str] = []
        while self._at < len(self._text):
            here = self._text[self._at]
            if here in stops:
                break
            if self._text.startswith("$$", self._at):
                parts.append("$")
                self._at += 2
            elif self._text.startswith("${", self._at):
                parts.append(self._expression(depth + 1))
            else:
                parts.append(here)
                self._at += 1
        return "".join(parts)

    def _expression(self, depth: int) -> str:
        begin = self._at
        if depth > _MAX_DEPTH:
            raise self._refusal(begin, "substitutions are nested too deeply")
        self._at += 2
        length_of = self._skip("#")
        name = _NAME.match(self._text, self._at)
        if name is None:
            raise self._refusal(begin, "'${' needs a variable's name after it")
        self._at = name.end()
        value = self._env.get(name.group(), "")
        value = str(len(value)) if length_of else self._apply(value, begin, depth)
        if not self._skip("}"):
            raise self._refusal(begin, f"'{self._shown(begin)}' is no substitution known here")
        return value

    def _apply(self, value: str, begin: int, depth: int) -> str:
        for mark in (":-", ":=", "=", "-"):
            if self._skip(mark):
                default = self._read_until("}", depth=depth)
                return value or default
        for mark, change in _CASES:
            if self._skip(mark):
                return change(value)
        for mark, trim in _TRIMS:
            if self._skip(mark):
                return trim(value, self._read_until("}", depth=depth))
        for mark, replace in _REPLACES:
            if self._skip(mark):
                old = self._read_until("/}", depth=depth)
                new = self._read_until("}", depth=depth) if self._skip("/") else ""
                return replace(value, old, new)
        if self._skip(":"):
            return self._slice(value, begin, depth)
        return value

    def _slice(self, value: str, begin: int, depth: int) -> str:
        start = self._read_until(":}", depth=depth).strip()
        length = self._read_until("}", depth=depth).strip() if self._skip(":") else str(len(value))
        if not _NUMBER.fullmatch(start) or not _NUMBER.fullmatch(length):
            raise self._refusal(begin, f"'{self._shown(begin)}' needs whole numbers after ':'")
        first = int(start) if int(start) >= 0 else max(0, len(value) + int(start))
        last = first + int(length) if int(length) >= 0 else len(value) + int(length)
        return value[first:last] if last > first else ""

    def _skip(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found

    def _shown(self, begin: int) -> str:
        end = self._text.find("}", begin)
        return self._text[begin : end + 1 if 0 <= end < begin + 60 else begin + 20].partition("\n")[0]

    def _refusal(self, begin: int, what: str) -> InvalidDeployment:
        line = self._text.count("\n", 0, begin) + 1
        return InvalidDeployment(
            f"line {line}: {what}",
            hint="Forms: ${NAME}, ${NAME:-default}, ${#NAME}, ${NAME:0:4}, ${NAME^^}, ${NAME,,}, "
            "${NAME#start}, ${NAME%end}, ${NAME/old/new}. $$ is one '$'.",
        )


def _first_upper(value: str) -> str:
    return value[:1].upper() + value[1:]


def _first_lower(value: str) -> str:
    return value[:1].lower() + value[1:]


def _matches(pattern: str, value: str) -> bool:
    return re.fullmatch(_glob_expression(pattern), value, re.DOTALL) is not None


def _glob_expression(pattern: str) -> str:
    """A glob as a regular expression: ``*`` and ``?`` stop at '/', a backslash takes the next as it is."""
    parts: list[str] = []
    characters = iter(pattern)
    for c in characters:
        if c in "*?":
            parts.append("[^/]*" if c == "*" else "[^/]")
        else:
            parts.append(re.escape(next(characters, c) if c == "\\" else c))
    return "".join(parts)


def _trim_prefix(longest: bool) -> Callable[[str, str], str]:
    def trim(value: str, pattern: str) -> str:
        lengths = range(len(value), 0, -1) if longest else range(1, len(value) + 1)
        found = next((n for n in lengths if _matches(pattern, value[:n])), 0)
        return value[found:]

    return trim


def _trim_suffix(longest: bool) -> Callable[[str, str], str]:
    def trim(value: str, pattern: str) -> str:
        starts = range(len(value)) if longest else range(len(value) - 1, -1, -1)
        found = next((n for n in starts if _matches(pattern, value[n:])), len(value))
        return value[:found]

    return trim


def _replace_prefix(value: str, old: str, new: str) -> str:
    return new + value[len(old) :] if old and value.startswith(old) else value


def _replace_suffix(value: str, old: str, new: str) -> str:
    return value[: -len(old)] + new if old and value.endswith(old) else value


# Longer marks first: '##' must not be read as '#'.
_CASES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("^^", str.upper),
    ("^", _first_upper),
    (",,", str.lower),
    (",", _first_lower),
)
_TRIMS: tuple[tuple[str, Callable[[str, str], str]], ...] = (
    ("##", _trim_prefix(longest=True)),
    ("#", _trim_prefix(longest=False)),
    ("%%", _trim_suffix(longest=True)),
    ("%", _trim_suffix(longest=False)),
)
_REPLACES: tuple[tuple[str, Callable[[str, str, str], str]], ...] = (
    ("//", lambda value, old, new: value.replace(old, new) if old else value),
    ("/#", _replace_prefix),
    ("/%", _replace_suffix),
    ("/", lambda value, old, new: value.replace(old, new, 1) if old else value),
)
