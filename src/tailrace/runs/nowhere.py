"""A transport to nobody: what is written for a client that has left is dropped here."""

from __future__ import annotations

import asyncio


class Nowhere(asyncio.Transport):
    """Takes everything at once. Not compiled: it inherits from a class that is not."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Drop it."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""
