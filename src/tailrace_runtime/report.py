"""Reports: lines of JSON that tell the provider how this replica fares and what its function prints."""

from __future__ import annotations

import json
import os

from tailrace_runtime import native

# The provider refuses longer lines (boot contract: 64 KiB); the rest is the line's own keys.
_MAX_TEXT_JSON = 60_000


class Reporter:
    """Writes reports to a pipe. A full pipe makes the writer wait: nothing is dropped.

    Owns no file descriptor: the pipe lives as long as the process. Safe from threads and greenlets;
    the lock is never held across a switch of greenlets, so it must be a native one. Safe from what runs in
    the middle of a report too, a signal's handler or a ``__del__``: what it reports goes out after that one.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)  # another thread may hold it, which is not there

    def _begin_anew(self) -> None:
        self._lock = native.new_reentrant_lock()
        self._unsent: list[bytes] = []
        self._is_sending = False

    def loaded(self, import_s: float) -> None:
        """The handler is loaded and the socket listens."""
        self._send({"type": "loaded", "import_s": round(import_s, 4)})

    def failed(self, error: str, trace: str, hint: str) -> None:
        """The handler cannot be loaded. Only the last 12 KiB of the trace are kept."""
        self._send({"type": "failed", "error": error[:2000], "trace": trace[-12_000:], "hint": hint})

    def retiring(self, reason: str) -> None:
        """This replica takes no more calls and ends by itself: another should be started now."""
        self._send({"type": "retiring", "reason": reason})

    def log(self, stream: str, text: str, call: str) -> None:
        """Text the function wrote; a line that is too long for one report is sent in pieces."""
        text = text.encode(errors="backslashreplace").decode()  # a lone surrogate is no JSON
        if len(text) * 12 > _MAX_TEXT_JSON and len(json.dumps(text)) > _MAX_TEXT_JSON:
            half = len(text) // 2
            self.log(stream, text[:half], call)
            self.log(stream, text[half:], call)
            return
        self._send({"type": "log", "stream": stream, "text": text, "call": call})

    def _send(self, report: dict[str, object]) -> None:
        line = json.dumps(report).encode() + b"\n"
        with self._lock:
            self._unsent.append(line)
            if self._is_sending:
                return  # this is in the middle of the loop below
            try:
                self._is_sending = True
                while self._unsent:
                    line = self._unsent.pop(0)
                    while line:
                        line = line[os.write(self._fd, line) :]
            except OSError:
                self._unsent.clear()  # the provider is gone, and the lifeline is about to end this process
            finally:
                self._is_sending = False
