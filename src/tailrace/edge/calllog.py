"""One line per call, as text or JSON, handed on in bundles.

What a client sent is hostile: a value that is more than a plain word is quoted, with every control character
escaped, so that a line is always one line. Query strings, headers and bodies are not told: they hold secrets.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Final

from tailrace.edge.numbers import Numbers
from tailrace.settings import LogFormat

# Takes whole lines; False when there is no room for them now, and they are offered again.
Sink = Callable[[bytes], bool]

# A line is seen at most this late; meanwhile others join it.
FLUSH_S = 0.1
FLUSH_BYTES = 64 * 1024
# Kept for a sink that has no room; then lines are dropped and counted.
BUFFER_BYTES = 1024 * 1024
# Of one value this much is told.
VALUE_BYTES = 256
# Shown forms of values that were seen; with more different ones it begins anew.
_SHOWN_VALUES: Final = 4096

_WORD: Final = re.compile(rb"[A-Za-z0-9._:/@+-]+")

# One formatting per line is most of its cost. In order: time to the second, milliseconds, call id, function,
# method, status, end reason, bytes, (first byte,) total, client, client's call id.
_TEXT: Final = (
    b"%b.%03dZ call_id=%b function=%b method=%b status=%d end_reason=%b bytes=%d first_byte_s=%.4f"
    b" total_s=%.4f client=%b%b\n"
)
_JSON: Final = (
    b'{"time":"%b.%03dZ","call_id":"%b","function":%b,"method":%b,"status":%d,"end_reason":%b,"bytes":%d,'
    b'"first_byte_s":%.4f,"total_s":%.4f,"client":%b%b}\n'
)


class CallLog:
    """Writes lines into a bounded buffer that goes to ``sink`` every 0.1 s or 64 KiB, whichever is first.

    Owns: a timer while lines wait; `close` ends it.

    Args:
        numbers: Where lines that were dropped are counted.
        clock: Unix seconds.
    """

    def __init__(
        self,
        form: LogFormat,
        sink: Sink,
        numbers: Numbers,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._numbers = numbers
        self._loop = loop
        self._clock = clock
        self._lines: list[bytes] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._time = b""
        self.set_form(form)

    def set_form(self, form: LogFormat) -> None:
        """Write the lines that follow in another form, or none of them."""
        self.is_on = form != "off"
        self._is_json = form == "json"
        self._template = _JSON if self._is_json else _TEXT
        self._template_unanswered = self._template.replace(b"=%.4f", b"=%b", 1).replace(b":%.4f", b":%b", 1)
        self._none = b"null" if self._is_json else b"-"
        self._client_id = b',"client_call_id":' if self._is_json else b" client_call_id="
        self._shown: dict[bytes, bytes] = {}
        self._reasons: dict[str, bytes] = {}

    def write(
        self,
        *,
        call_id: bytes,
        function: bytes,
        method: bytes,
        status: int,
        end_reason: str,
        bytes_out: int,
        first_byte_s: float | None,
        total_s: float,
        client: bytes,
        client_call_id: bytes,
    ) -> None:
        """Tell of a call that is over; ``first_byte_s`` None when it got no answer.

        ``client_call_id`` is left out when it is empty.
        """
        if not self.is_on:
            return
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        shown, show = self._shown.get, self._show
        line = (self._template if first_byte_s is not None else self._template_unanswered) % (
            self._time,
            (now - second) * 1000,
            call_id,
            shown(function) or show(function),
            shown(method) or show(method),
            status,
            self._reasons.get(end_reason) or self._show_reason(end_reason),
            bytes_out,
            self._none if first_byte_s is None else first_byte_s,
            total_s,
            shown(client) or show(client),
            self._client_id + self._quote(client_call_id) if client_call_id else b"",
        )
        self._keep(line)

    def _keep(self, line: bytes) -> None:
        size = self._bytes + len(line)
        if size > BUFFER_BYTES:
            self._numbers.log_lines_dropped += 1
            return
        self._lines.append(line)
        self._bytes = size
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._on_timer)
        # Once at the threshold, not at every line above it: a sink without room is asked by the timer.
        if size >= FLUSH_BYTES > size - len(line):
            self.flush()

    def _show(self, value: bytes) -> bytes:
        """The value as it stands in a line; remembered, since few values make most lines."""
        shown = self._quote(value)
        if len(value) <= VALUE_BYTES:
            if len(self._shown) >= _SHOWN_VALUES:
                self._shown.clear()
            self._shown[value] = shown
        return shown

    def _quote(self, value: bytes) -> bytes:
        short = value[:VALUE_BYTES]
        if _WORD.fullmatch(short):
            return b'"%b"' % short if self._is_json else short
        text = json.dumps(short.decode("utf-8", "replace"))
        return text.replace("\x7f", "\\u007f").encode()

    def _show_reason(self, reason: str) -> bytes:
        shown = self._reasons[reason] = self._quote(reason.encode())
        return shown

    def _on_timer(self) -> None:
        self._timer = None
        self.flush()
        if self._lines:
            self._timer = self._loop.call_later(FLUSH_S, self._on_timer)

    def flush(self) -> None:
        """Hand over what is there; it stays when the sink has no room."""
        if self._lines and self._sink(b"".join(self._lines)):
            self._lines.clear()
            self._bytes = 0

    def close(self) -> None:
        """Hand over the rest; what the sink does not take now is dropped and counted."""
        self.flush()
        self._numbers.log_lines_dropped += len(self._lines)
        self._lines.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
