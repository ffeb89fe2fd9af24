"""What a function's ``requirements.txt`` may say, checked and normalised before an installer sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tailrace.errors import InvalidBundle

# A list locked with hashes for 500 packages has about 1 MiB.
REQUIREMENTS_LIMIT = 2 << 20
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9._]*[A-Za-z0-9])?")
_SUPPORTED = (
    "Supported are requirements by name ('flask>=3'), by address ('x @ https://...', 'git+https://...'), "
    "--hash, --index-url, --extra-index-url, --no-binary and --only-binary."
)
_INDEX_OPTIONS = {"-i": "--index-url", "--index-url": "--index-url", "--extra-index-url": "--extra-index-url"}
_BINARY_OPTIONS = ("--no-binary", "--only-binary")
_HASH = re.compile(r"--hash[= ](?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_REMOTE = re.compile(r"(?:https?|git\+https?|git\+ssh)://", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirements:
    """Lines for the installer: options first, then requirements, sorted and without repeats.

    ``index`` names the private package index that they came from, whose address is kept nowhere; '' for none.
    """

    lines: tuple[str, ...]
    index: str = ""

    @property
    def names(self) -> list[str]:
        """The packages asked for by name, as written, for a progress line."""
        found = [_NAME.match(line) for line in self.lines]
        return [match.group() for match in found if match]


def read_requirements(path: Path) -> Requirements:
    """The checked requirements at path; none when the file does not exist.

    Raises:
        InvalidBundle: over 2 MiB, not UTF-8, or a line that is not supported, quoted with its number.
    """
    try:
        with path.open("rb") as file:
            data = file.read(REQUIREMENTS_LIMIT + 1)
    except FileNotFoundError:
        return Requirements(())
    if len(data) > REQUIREMENTS_LIMIT:
        raise InvalidBundle(f"requirements.txt is over {REQUIREMENTS_LIMIT:,} bytes")
    try:
        return parse_requirements(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidBundle("requirements.txt is not UTF-8") from None


def parse_requirements(text: str) -> Requirements:
    """The lines of a requirements file.

    Nothing that names a file of this machine is accepted (``-r``, ``-c``, ``-e``, paths): the installer
    runs as the gateway, outside of the bundle.

    Raises:
        InvalidBundle: as in `read_requirements`.
    """
    lines = {_check_line(number, line) for number, line in _logical_lines(text)}
    return Requirements(tuple(sorted(lines, key=lambda line: (not line.startswith("-"), line))))


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines joined at trailing backslashes, without comments, each with the number of its first one."""
    found: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not pending:
            start = number
        # A comment begins at the line's start or after a blank, so addresses keep their '#egg='.
        part = re.sub(r"(?:^|\s)#.*$", "", line)
        if part.endswith("\\"):
            pending += part[:-1] + " "
            continue
        whole = " ".join((pending + part).split())
        if whole:
            found.append((start, whole))
        pending = ""
    if pending.strip():
        found.append((start, " ".join(pending.split())))
    return found


def _check_line(number: int, line: str) -> str:
    if not line.isprintable():
        raise _refused(number, line, "it holds a control character")
    if line.startswith("-"):
        return _check_option(number, line)
    requirement = line.split(" --", 1)[0]
    hashes = line[len(requirement) :].strip()
    if _HASH.sub("", hashes).strip():
        raise _refused(number, line, "it has an option that is not supported")
    if not _REMOTE.match(requirement) and _names_a_file(requirement):
        raise _refused(number, line, "it is no package's name, or names a file of the server")
    return line


def _names_a_file(requirement: str) -> bool:
    name, at, address = requirement.split(";")[0].partition("@")
    if not _NAME.match(name) or "/" in name or "\\" in name:
        return True
    if at:
        return not _REMOTE.match(address.strip())
    return name.strip().endswith((".whl", ".zip", ".gz", ".bz2", ".xz", ".tgz"))


def _check_option(number: int, line: str) -> str:
    option, separator, value = line.replace("=", " ", 1).partition(" ")
    if option in _INDEX_OPTIONS and re.fullmatch(r"https?://\S+", value):
        return f"{_INDEX_OPTIONS[option]} {value}"
    if option in _BINARY_OPTIONS and separator and all(_is_package(name) for name in value.split(",")):
        return f"{option} {value}"
    raise _refused(number, line, "the option is not supported")


def _is_package(name: str) -> bool:
    return name in (":all:", ":none:") or _NAME.fullmatch(name) is not None


def _refused(number: int, line: str, why: str) -> InvalidBundle:
    # Cut last: a token that is cut before its '@' would not be seen as one.
    shown = redact(line.encode("unicode_escape").decode())[:120]
    return InvalidBundle(f"requirements.txt line {number}: '{shown}': {why}", hint=_SUPPORTED)


def redact(text: str) -> str:
    """The text without the user and password of addresses in it; a password may hold an '@' of its own."""
    return re.sub(r"(://)[^/?#\s]+@", r"\1***@", text)
