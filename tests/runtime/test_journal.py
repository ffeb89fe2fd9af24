"""What is printed: whole lines at once, each with its call."""

from __future__ import annotations

import contextvars
import json
import os
import sys
import threading
from collections.abc import Callable

import pytest

from tailrace_runtime.journal import MAX_PARTIAL_CHARS, Journal
from tailrace_runtime.report import Reporter
from tests.kit.replica import loaded_replica

Lines = list[tuple[str, str, str]]


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def journal(lines: Lines) -> Journal:
    return Journal(lambda *line: lines.append(line), "/root")


def within(journal: Journal, call: str, act: Callable[[], object]) -> None:
    """Act as that call, in a context of its own."""
    contextvars.copy_context().run(lambda: (journal.begin(call), act()))


def test_a_line_is_handed_on_when_it_ends(journal: Journal, lines: Lines) -> None:
    """Two writes of one line are one line; several lines are several."""
    journal.stdout.write("he")
    assert [] == lines

    journal.stdout.write("llo\nsecond\nthi")

    assert [("stdout", "hello\n", ""), ("stdout", "second\n", "")] == lines


def test_flush_hands_on_an_unfinished_line(journal: Journal, lines: Lines) -> None:
    """``print(token, end="", flush=True)`` shows at once."""
    print("token", end="", flush=True, file=journal.stdout)

    assert [("stdout", "token", "")] == lines


def test_lines_of_two_calls_never_mix(journal: Journal, lines: Lines) -> None:
    """Each call has its own unfinished line and its own id."""
    within(journal, "a", lambda: journal.stdout.write("one "))
    within(journal, "b", lambda: journal.stdout.write("two\n"))
    within(journal, "a", lambda: journal.stdout.write("more\n"))

    assert [("stdout", "two\n", "b"), ("stdout", "one more\n", "a")] == lines


def test_a_report_in_the_middle_of_a_report_goes_out_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a signal's handler that prints: neither waits for the other, and the lines stay whole."""
    reading, writing = os.pipe()
    reporter = Reporter(writing)
    write, interrupts = os.write, iter([True])

    def interrupted(fd: int, data: bytes) -> int:
        begun = write(fd, data[:10])
        if next(interrupts, False):
            reporter.log("stderr", "inner\n", "")
        return begun

    monkeypatch.setattr(os, "write", interrupted)
    thread = threading.Thread(target=reporter.log, args=("stdout", "outer\n", ""), daemon=True)
    thread.start()
    thread.join(10)

    assert not thread.is_alive()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert ["outer\n", "inner\n"] == [json.loads(line)["text"] for line in pipe]


FORKING = """
import os, threading, time

def chatter():
    while True:
        print("x" * 1000)

def handle(event, context):
    for _ in range(2):
        threading.Thread(target=chatter, daemon=True).start()
    for _ in range(10):
        child = os.fork()
        if not child:
            print("from the child")
            os._exit(0)
        until = time.monotonic() + 5
        while os.waitpid(child, os.WNOHANG)[0] != child:
            if time.monotonic() > until:
                os.kill(child, 9)
                raise TimeoutError("the child did not end")
            time.sleep(0.01)
    yield "all ended"
"""


def test_a_child_that_is_forked_while_others_print_can_print() -> None:
    """As with `multiprocessing`, beside threads: a lock that one of them holds is not left in the child."""
    with loaded_replica(FORKING, worker="threads") as replica:
        assert "all ended" in replica.ask().text


def test_the_end_of_a_call_hands_on_what_is_left(journal: Journal, lines: Lines) -> None:
    """No line is lost because nobody ended it."""
    within(journal, "a", lambda: journal.stderr.write("last words"))

    journal.end("a")

    assert [("stderr", "last words", "a")] == lines


def test_a_line_without_end_is_let_go(journal: Journal, lines: Lines) -> None:
    """A progress bar does not grow in memory."""
    journal.stdout.write("x" * (MAX_PARTIAL_CHARS + 1))

    assert 1 == len(lines)


def test_bytes_and_descriptors_work(journal: Journal, lines: Lines) -> None:
    """Code that writes to ``sys.stdout.buffer`` or hands stdout to a subprocess keeps working."""
    journal.stdout.buffer.write("é\n".encode())

    assert [("stdout", "é\n", "")] == lines
    assert (1, 2) == (journal.stdout.fileno(), journal.stderr.fileno())


def test_a_traceback_begins_at_the_functions_own_code(journal: Journal) -> None:
    """What leads into the handler is not its author's business."""
    own = Journal(lambda *_: None, __file__)
    try:
        compile("def (", "x", "exec")
    except SyntaxError as error:
        foreign, trimmed = journal.describe(error), own.describe(error)

    assert "test_journal.py" in foreign
    assert "test_journal.py" in trimmed
    assert sys.stdout is not journal.stdout


def test_a_report_stands_beside_what_a_call_is_writing(journal: Journal, lines: Lines) -> None:
    """Its lines are whole and the call's own; the call's unfinished line goes on after them."""
    within(journal, "a", lambda: journal.stderr.write("50 %"))

    journal.stderr.hand_on("one\ntwo\n", "a")
    within(journal, "a", lambda: journal.stderr.write(" 100 %\n"))

    assert [("stderr", "one\n", "a"), ("stderr", "two\n", "a"), ("stderr", "50 % 100 %\n", "a")] == lines


def test_a_stack_begins_at_the_functions_own_code(journal: Journal) -> None:
    """Outermost first; all of it where nothing is the function's own."""
    places = [(compile("", name, "exec"), 1) for name in ("/lib/server.py", "/root/handler.py", "/lib/x.py")]

    own = journal.describe_places(places)
    foreign = journal.describe_places(places[:1])

    assert own.splitlines() == [
        '  File "/root/handler.py", line 1, in <module>',
        '  File "/lib/x.py", line 1, in <module>',
    ]
    assert foreign.startswith('  File "/lib/server.py", line 1')
