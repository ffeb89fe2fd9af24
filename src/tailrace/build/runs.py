"""What the ``RUN`` lines of a Dockerfile would have done that is not done without Docker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Rights, users and folders of an image: replicas have their own.
_POINTLESS = frozenset(
    {
        "chmod", "chown", "mkdir", "touch", "echo", "rm", "set", "true", ":", "[", "test", "cd",
        "adduser", "addgroup", "useradd", "groupadd", "tox",
    }
)  # fmt: skip
_SEPARATORS = re.compile(r"&&|\|\||[;|]")
_INSTALLERS = {
    "apt-get": "install", "apt": "install", "apk": "add", "yum": "install", "dnf": "install",
    "microdnf": "install", "zypper": "install",
}  # fmt: skip
_FROM_LIST = re.compile(
    r"(?:python[0-9.]*\s+-m\s+)?pip[0-9.]*\s+install\s+(?:\S+\s+)*?(?:-r|--requirement)[\s=]"
)


def system_packages(runs: Iterable[str]) -> tuple[str, ...]:
    """The packages of the image's system that these commands would install, each once."""
    found: list[str] = []
    for command in _commands(runs):
        words = command.split()
        verb = _INSTALLERS.get(words[0])
        if verb in words:
            rest = words[words.index(verb) + 1 :]
            # A virtual package of apk ("-t name") is a name too, and no harm in a list for people.
            found += [word for word in rest if not word.startswith(("-", "$", ">", "<"))]
    return tuple(dict.fromkeys(found))


def other_commands(runs: Iterable[str]) -> tuple[str, ...]:
    """The commands that are neither packages of a system, nor requirement lists, nor about an image alone."""
    return tuple(
        command
        for command in _commands(runs)
        if command.split()[0] not in _POINTLESS
        and command.split()[0] not in _INSTALLERS
        and not _FROM_LIST.match(command)
    )


def _commands(runs: Iterable[str]) -> Iterator[str]:
    for run in runs:
        text = re.sub(r"^(?:--\S+ +)+", "", run)
        for command in _SEPARATORS.split(text):
            if command.strip():
                yield command.strip()
