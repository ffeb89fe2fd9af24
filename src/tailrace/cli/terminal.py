"""Colour, and text from elsewhere made safe to print."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TextIO

_RED, _GREEN, _YELLOW, _DIM, _BOLD = "31", "32", "33", "2", "1"
_NAMES = ("36", "33", "35", "32", "34", "96", "93", "95")
# What may move the cursor, ring, retitle, hide or turn text round: everything of C0 and C1 but tab, DEL, the
# separators of lines, Unicode's bidirectional controls; and halves of characters, which no stream takes.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,40}m")


class Paint:
    """Colours words for one stream, or leaves them as they are. Meaning is never in the colour alone."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on

    def red(self, text: str) -> str:
        return self._paint(_RED, text)

    def green(self, text: str) -> str:
        return self._paint(_GREEN, text)

    def yellow(self, text: str) -> str:
        return self._paint(_YELLOW, text)

    def dim(self, text: str) -> str:
        return self._paint(_DIM, text)

    def bold(self, text: str) -> str:
        return self._paint(_BOLD, text)

    def name(self, text: str, index: int) -> str:
        """The text in the colour of the index-th name."""
        return self._paint(_NAMES[index % len(_NAMES)], text)

    def clean(self, text: str) -> str:
        """A line from elsewhere without control characters; its colours stay where colours are on."""
        parts: list[str] = []
        at = 0
        for colour in _COLOUR.finditer(text):
            parts += [_CONTROL.sub(_escape, text[at : colour.start()]), colour.group() if self.is_on else ""]
            at = colour.end()
        parts.append(_CONTROL.sub(_escape, text[at:]))
        reset = "\x1b[0m" if self.is_on and at else ""
        return "".join(parts) + reset

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text


def paint_for(stream: TextIO, env: Mapping[str, str]) -> Paint:
    """Colour on a terminal that can, unless NO_COLOR is set (no-color.org)."""
    return Paint(stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb")


def plain(text: str) -> str:
    """A text from elsewhere on one line, without colours: what a terminal would obey is shown instead."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
