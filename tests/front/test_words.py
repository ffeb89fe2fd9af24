"""What of Caddy's log becomes a line of ours."""

from __future__ import annotations

import pytest

from tailrace.front.words import READY, read_line, worth_telling

OBTAINED = (
    '{"level":"info","logger":"tls.obtain","msg":"certificate obtained successfully","identifier":"a.example"'
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'{OBTAINED},"issuer":"acme-v02"}}', "certificate obtained for a.example from acme-v02"),
        (f"{OBTAINED}}}", "certificate obtained for a.example"),
        (
            '{"level":"info","msg":"certificate renewed successfully","identifier":"a.example","issuer":"x"}',
            "certificate renewed for a.example from x",
        ),
        (
            '{"level":"error","msg":"will retry","error":"no route","ts":1.5,"attempt":1,"challenges":[]}',
            "error: will retry (no route)",
        ),
        (
            '{"level":"error","msg":"challenge failed","identifier":"a.example","error":"refused"}',
            "error: challenge failed (a.example: refused)",
        ),
        ('{"level":"warn","msg":"clock is off"}', "warn: clock is off"),
        ('{"level":"warn","msg":"exiting; byeee!! 👋"}', ""),
        ('{"level":"info","msg":"using config from stdin"}', ""),
        ('{"level":"info","msg":"serving initial configuration"}', ""),
    ],
)
def test_warnings_errors_and_news_of_certificates_are_told(text: str, told: str) -> None:
    """Everything else stays Caddy's own business."""
    line = read_line(text)

    assert line is not None
    assert told == worth_telling(line)


def test_its_own_authority_is_told_with_its_root() -> None:
    """Whoever tests on localhost learns what to trust."""
    line = read_line(f'{OBTAINED},"issuer":"local"}}')

    assert line is not None
    assert "root.crt" in worth_telling(line)


def test_the_sign_of_being_ready_is_what_caddy_writes() -> None:
    """`READY` is the message alone."""
    line = read_line('{"level":"info","ts":1795406424.3,"msg":"serving initial configuration"}')

    assert line is not None
    assert line.msg == READY


@pytest.mark.parametrize("text", ["", "panic: runtime error", '{"level":"info"}', "[1]", '{"msg":1}'])
def test_words_that_are_no_log_line_are_none(text: str) -> None:
    """They are kept as last words, not guessed at."""
    assert read_line(text) is None


def test_a_long_error_is_shortened() -> None:
    """A log line stays a line."""
    line = read_line('{"level":"error","msg":"m","error":"' + "x" * 5000 + '"}')

    assert line is not None
    assert len(worth_telling(line)) == 1000
