"""What a Dockerfile says of variables. It is read, never run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)")


def read_env(text: str) -> dict[str, str]:
    """The variables that the last stage sets, with those of the stages it is built from.

    A line that cannot be read sets nothing: only Docker knows all of the language.
    """
    stages: dict[str, dict[str, str]] = {}
    arguments: dict[str, str] = {}
    env: dict[str, str] = {}
    for word, rest in _instructions(text):
        if word == "FROM":
            words = [part for part in rest.split() if not part.startswith("--")]
            env = dict(stages.get(words[0].lower(), {})) if words else {}
            if len(words) == 3 and words[1].lower() == "as":
                stages[words[2].lower()] = env
        elif word == "ARG":
            name, equals, value = rest.partition("=")
            if equals:
                arguments[name.strip()] = _unquoted(value, arguments)
        elif word == "ENV":
            env.update(_pairs(rest, {**arguments, **env}))
    return env


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction's word, in capitals, and the rest of it; lines joined, comments dropped."""
    pending = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        word, _, rest = pending.strip().partition(" ")
        pending = ""
        if word:
            yield word.upper(), rest.strip()


def _pairs(rest: str, known: Mapping[str, str]) -> dict[str, str]:
    """``k=v k2="v 2"``, or the old form ``k v``."""
    name, _, value = rest.partition(" ")
    if "=" not in name:
        return {name: _unquoted(value, known)} if value else {}
    try:
        words = shlex.split(rest)
    except ValueError:  # a quote without its other one
        return {}
    found = (word.partition("=") for word in words)
    return {name: _expanded(value, known) for name, equals, value in found if equals}


def _unquoted(text: str, known: Mapping[str, str]) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return _expanded(text, known)


def _expanded(text: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[3], found[2] or ""), text)
