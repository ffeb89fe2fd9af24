"""Who may be sent a result now: so many in all, so many per host, so many bytes. No awaits.

A receiver that hangs holds its place for as long as it is waited for. With a bound per host it holds up the
results of that host alone.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter, OrderedDict
from collections.abc import Iterator

# In all, and of one host and port.
AT_ONCE = 64
PER_HOST = 4
# Of results that are held at once: as much as 16 of the largest that are recorded.
HELD_BYTES = 64 * 1024 * 1024
_LARGEST_BYTES = 4 * 1024 * 1024
# One without a place is looked at again after the first, and the more there are the later.
MIN_WAIT_S, MAX_WAIT_S = 1.0, 30.0
_WAITING_PER_S = 100.0
# So many that were handed back are counted; the oldest are forgotten first.
_COUNTED = 100_000


class Places:
    """The places of one worker."""

    def __init__(self) -> None:
        self._hosts: Counter[str] = Counter()
        self._bytes = 0
        # How often each result was handed back without having been tried.
        self._handed_back: OrderedDict[str, int] = OrderedDict()

    @contextlib.contextmanager
    def take(self, host: str, size: int) -> Iterator[bool]:
        """Hold a place while the context is open; False: there is none.

        Args:
            size: Bytes of the result, also past what was recorded of it.
        """
        size = min(size, _LARGEST_BYTES)
        is_free = self._hosts[host] < PER_HOST and self._bytes + size <= HELD_BYTES
        if not is_free:
            yield False
            return
        self._hosts[host] += 1
        self._bytes += size
        try:
            yield True
        finally:
            self._bytes -= size
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    def hand_back(self, name: str) -> float:
        """A result goes back untried: in how many seconds it is looked at again."""
        self._handed_back[name] = self._handed_back.pop(name, 0) + 1
        if len(self._handed_back) > _COUNTED:
            self._handed_back.popitem(last=False)
        longest = min(MAX_WAIT_S, MIN_WAIT_S + len(self._handed_back) / _WAITING_PER_S)
        return random.uniform(MIN_WAIT_S / 2, longest)  # noqa: S311  # no secret

    def tries_of(self, name: str, handed_out: int) -> int:
        """How often a result was really tried, of so many times that it was handed out."""
        return max(1, handed_out - self._handed_back.get(name, 0))

    def forget(self, name: str) -> None:
        """A result is settled."""
        self._handed_back.pop(name, None)
