"""What a function prints, line by line, tagged with the call that printed it.

``sys.stdout`` and ``sys.stderr`` are replaced. The tag is a context variable: greenlets, asyncio tasks,
``asyncio.to_thread`` and copied contexts inherit it; a plain ``threading.Thread`` of a handler does
not, and its lines carry no call id.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, ContextVar, Token
from types import CodeType, TracebackType
from typing import Literal

from tailrace_runtime import native

StreamName = Literal["stdout", "stderr"]
Sink = Callable[[str, str, str], None]
# Code that runs, and the number of the line it is at.
Place = tuple[CodeType, int | None]

_current_call: ContextVar[str] = ContextVar("tailrace_call", default="")

# An unfinished line is let go at this size: a progress bar that never ends its line must not grow.
MAX_PARTIAL_CHARS = 16_384


class _Bytes(io.RawIOBase):
    """The ``buffer`` of a journal stream, for code that writes bytes."""

    def __init__(self, stream: JournalStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raw = bytes(data)  # type: ignore[call-overload]  # any buffer, as RawIOBase.write takes
        self._stream.write(raw.decode(errors="replace"))
        return len(raw)

    def flush(self) -> None:
        self._stream.flush()


class JournalStream(io.TextIOBase):
    """A text stream that hands on whole lines at once, and an unfinished one at flush.

    Lines of different calls never mix. Policy when the sink is slow: the writer waits.
    """

    def __init__(self, name: StreamName, fd: int, sink: Sink) -> None:
        self._name = name
        self._fd = fd
        self._sink = sink
        self._partial: dict[str, str] = {}
        self.renew_lock()
        self._buffer = _Bytes(self)

    def renew_lock(self) -> None:
        """In a child that was forked: whoever holds the lock there is not in it."""
        # Reentrant: a __del__ that prints may run inside write. Native: never held across a switch.
        self._lock = native.new_reentrant_lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a writable attribute
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # typeshed has a writable attribute
        return "backslashreplace"

    @property
    def buffer(self) -> _Bytes:
        return self._buffer

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    def fileno(self) -> int:
        """The process's own descriptor, for subprocesses and faulthandler: without a call id."""
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        call = _current_call.get()
        with self._lock:
            *lines, rest = (self._partial.pop(call, "") + text).split("\n")
            for line in lines:
                self._sink(self._name, line + "\n", call)
            if len(rest) > MAX_PARTIAL_CHARS:
                self._sink(self._name, rest, call)
            elif rest:
                self._partial[call] = rest
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]  # typeshed: bytes too
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.flush_call(_current_call.get())

    def flush_call(self, call: str) -> None:
        """Hand on the unfinished line of one call."""
        with self._lock:
            partial = self._partial.pop(call, "")
            if partial:
                self._sink(self._name, partial, call)

    def hand_on(self, text: str, call: str) -> None:
        """Hand on whole lines beside what call is writing: they never meet its unfinished line."""
        with self._lock:
            for line in text.splitlines(keepends=True):
                self._sink(self._name, line, call)

    def close(self) -> None:
        """Nothing closes: a function that closes its stdout must not silence the others."""
        self.flush()


class Journal:
    """Both streams of a replica, and which call is running."""

    def __init__(self, sink: Sink, root: str) -> None:
        self.stdout = JournalStream("stdout", 1, sink)
        self.stderr = JournalStream("stderr", 2, sink)
        self._root = root

    def install(self) -> None:
        """Become ``sys.stdout`` and ``sys.stderr``."""
        sys.stdout = self.stdout
        sys.stderr = self.stderr
        for stream in (self.stdout, self.stderr):
            os.register_at_fork(after_in_child=stream.renew_lock)

    def begin(self, call: str) -> Token[str]:
        """Tag what the current context prints from now on with call."""
        return _current_call.set(call)

    def end(self, call: str, token: Token[str] | None = None) -> None:
        """Hand on what call left unfinished, and forget it."""
        self.stdout.flush_call(call)
        self.stderr.flush_call(call)
        if token is not None:
            _current_call.reset(token)

    @staticmethod
    def call_in(context: Context) -> str:
        """The call whose context this is; empty where it is none's."""
        return context.get(_current_call, "")

    def failure(self, error: BaseException) -> None:
        """Print the error's traceback to stderr, beginning at the function's own code."""
        self.stderr.write(self.describe(error))

    def describe(self, error: BaseException) -> str:
        """The error's traceback as text, without the frames that lead into the function's folder."""
        own = _own_frames(error.__traceback__, self._root)
        return "".join(traceback.format_exception(type(error), error, own or error.__traceback__))

    def describe_places(self, places: Sequence[Place]) -> str:
        """A stack as text, as a traceback has it: outermost first, from the function's own code on."""
        own = next((i for i, (code, _) in enumerate(places) if code.co_filename.startswith(self._root)), 0)
        frames = [traceback.FrameSummary(code.co_filename, line, code.co_name) for code, line in places[own:]]
        return "".join(traceback.format_list(frames))


def _own_frames(frames: TracebackType | None, root: str) -> TracebackType | None:
    while frames is not None and not frames.tb_frame.f_code.co_filename.startswith(root):
        frames = frames.tb_next
    return frames
