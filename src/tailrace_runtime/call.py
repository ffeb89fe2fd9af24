"""One invocation as a replica receives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """A whole request. ``path`` and ``query`` are raw bytes as they stood in the request line."""

    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def id(self) -> str:
        """What the edge named this call; empty where nobody did."""
        return next((v.decode("latin-1") for k, v in self.headers if k.lower() == b"x-call-id"), "")

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header, by its name in lower case, as they came."""
        return [value for key, value in self.headers if key.lower() == name]
