"""cli.terminal and cli.logview: what reaches a person's screen."""

from __future__ import annotations

import io

import pytest

from tailrace.cli.logview import LogView, Piece
from tailrace.cli.terminal import Paint, paint_for


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "env", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_where_it_is_wanted(is_terminal: bool, env: dict[str, str], expected: bool) -> None:
    """A terminal that can, without NO_COLOR."""
    assert paint_for(Screen(is_terminal), env).is_on is expected


@pytest.mark.parametrize(
    ("text", "plain", "coloured"),
    [
        ("hello", "hello", "hello"),
        ("tab\tstays", "tab\tstays", "tab\tstays"),
        ("\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2Jgone", "\\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb", "a\\x0db", "a\\x0db"),
        ("\x9b31m", "\\x9b31m", "\\x9b31m"),
        ("Füße 🦶", "Füße 🦶", "Füße 🦶"),
        ("a\u202eb\u2069", "a\\u202eb\\u2069", "a\\u202eb\\u2069"),
        ("a\u2028b", "a\\u2028b", "a\\u2028b"),
        ("a\udc80", "a\\udc80", "a\\udc80"),
    ],
)
def test_a_log_line_cannot_take_over_the_screen(text: str, plain: str, coloured: str) -> None:
    """Control sequences are shown, not obeyed; only colours may pass, and only to a screen with colours."""
    assert Paint(is_on=False).clean(text) == plain
    assert Paint(is_on=True).clean(text) == coloured


def show(*pieces: Piece) -> str:
    out = io.StringIO()
    view = LogView(out, Paint(is_on=False))
    view.add_label("stream")
    for piece in pieces:
        view.show(piece)
    view.end_line()
    return out.getvalue()


def test_lines_have_their_function_in_front_and_are_aligned() -> None:
    """Whose line it is can be read down one column."""
    assert show(Piece("stream", 1, "a\n"), Piece("web", 2, "b\n")) == "stream  a\nweb     b\n"


def test_pieces_of_one_call_stand_on_one_line() -> None:
    """Tokens that are printed one by one read as text."""
    pieces = [Piece("stream", 1, text) for text in ("Hel", "lo", " you\nnext", "\n")]

    assert show(*pieces) == "stream  Hello you\nstream  next\n"


def test_somebody_elses_words_begin_a_new_line() -> None:
    """Two calls that print at once are never mixed into one line."""
    pieces = [Piece("stream", 1, "one"), Piece("stream", 2, "two"), Piece("stream", 1, "more\n")]

    assert show(*pieces) == "stream  one\nstream  two\nstream  more\n"


def test_an_empty_line_is_a_line() -> None:
    """What was printed is shown, also when it is nothing."""
    assert (
        show(Piece("stream", 1, "\n"), Piece("stream", 1, "a\n\nb\n"))
        == "stream  \nstream  a\nstream  \nstream  b\n"
    )


def test_the_platforms_words_break_an_open_line() -> None:
    """`say` never lands inside a function's unfinished line."""
    out = io.StringIO()
    view = LogView(out, Paint(is_on=False))

    view.show(Piece("web", 1, "unfinished"))
    view.say("web", "ready\ntry it")

    assert out.getvalue() == "web  unfinished\nweb  ready\nweb  try it\n"
