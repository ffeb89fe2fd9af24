"""Wrong passwords, by address: who gives too many has to wait. Pure but for the time, which is passed in.

An IPv6 address counts as its /64: a client changes the rest as it likes.
"""

from __future__ import annotations

from collections import OrderedDict

from tailrace.addresses import household

# So many wrong passwords within so long; then nothing of the address is looked at for as long again.
LIMIT = 10
WINDOW_S = 60.0
# Addresses and /64s that are remembered; the one that failed longest ago is forgotten first.
ADDRESSES = 4096


class Tries:
    """Counts wrong passwords. A guess costs an attacker six seconds on average, from any one address."""

    def __init__(self) -> None:
        # When the window of an address began, and how many wrong passwords came in it.
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0.0 when it may now."""
        began, count = self._failed.get(household(address), (0.0, 0))
        return max(0.0, began + WINDOW_S - now) if count >= LIMIT else 0.0

    def fail(self, address: str, now: float) -> None:
        """It gave a wrong password. The one that is too many begins the wait."""
        address = household(address)
        began, count = self._failed.pop(address, (now, 0))
        if now >= began + WINDOW_S:
            began, count = now, 0
        count += 1
        self._failed[address] = (now if count == LIMIT else began, count)
        while len(self._failed) > ADDRESSES:
            self._failed.popitem(last=False)
