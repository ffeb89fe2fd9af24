"""Interrupt a generator in its next socket read, whether that read would wait or not.

A handler whose client left often sits at its yield. Closing it there leaves the OpenAI SDK's connection
open and makes a LangChain chain read its model to the end (measured, reference of the clients, section
2). An exception out of the read itself closes both at once. Where the model was faster than the client,
thousands of chunks wait in the socket and the read does not block, so the kill of a greenlet would not
meet it there: a profile function sees the call of ``recv`` instead.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from _socket import socket as raw_socket
from collections.abc import Iterator
from types import FrameType

# What a generator may still give without reading: the chunks that its client had parsed already.
MAX_DISCARDED_ITEMS = 1000
# For all of it: a greenlet that computes for so long keeps the others waiting.
MAX_STRIKING_S = 0.25

_READS = frozenset(("recv", "recv_into", "read"))


def end_at_next_read(items: Iterator[object], stroke: type[BaseException]) -> None:
    """Resume items until stroke was raised in a read of theirs, they ended, or a bound was met.

    Swallows what they raise.

    Closes: items.
    """
    me = threading.get_ident()  # under gevent the greenlet's: others may run in between

    def strike(_: FrameType, event: str, called: object) -> None:
        if event == "c_call" and threading.get_ident() == me and _is_socket_read(called):
            raise stroke

    until = time.monotonic() + MAX_STRIKING_S
    before = sys.getprofile()
    sys.setprofile(strike)
    try:
        with contextlib.suppress(BaseException):
            for _ in range(MAX_DISCARDED_ITEMS):
                next(items)
                if time.monotonic() > until:
                    break
            getattr(items, "close", _nothing)()  # a chain that now drains its model is struck there
    finally:
        sys.setprofile(before)


def silence(stroke: type[BaseException]) -> None:
    """Keep Python from reporting that stroke ended a generator which nobody held any more."""
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, stroke):
            before(unraisable)

    sys.unraisablehook = hook


def _nothing() -> None:
    """Stands for the close of an iterator that has none."""


def _is_socket_read(called: object) -> bool:
    if getattr(called, "__name__", "") not in _READS:
        return False
    owner = getattr(called, "__self__", None)
    return isinstance(owner, raw_socket) or type(owner).__name__ == "_SSLSocket"
