"""How the texts of settings become values. Each reader raises ValueError with what it expects. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 20) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Seconds within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:
            raise ValueError(f"seconds from {low:g} to {high:g}")
        return value

    return parse


def flag(text: str) -> bool:
    """``true`` or ``false``."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1")


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(", ".join(choices[:-1]) + f" or {choices[-1]}")
        return text

    return parse


def whole_or_none(low: int, high: int) -> Callable[[str], int | None]:
    """A whole number within bounds; None for nothing."""
    parse = whole(low, high)
    return lambda text: parse(text) if text else None


def metrics_port(text: str) -> int | None:
    """A port; None for ``off``."""
    try:
        return None if text == "off" else whole(0, 65535)(text)
    except ValueError as expected:
        raise ValueError(f"{expected}, or off") from None


def file(text: str) -> Path | None:
    """A file's path; None for nothing."""
    return path(text) if text else None


def path(text: str) -> Path:
    """A path, made absolute."""
    if not text or "\0" in text:
        raise ValueError("a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:  # '~' or '~name' without a home
        raise ValueError("a path; this system knows no home folder for its '~'") from None
