"""Runs as the API shows them."""

from __future__ import annotations

import msgspec


class RunUsage(msgspec.Struct, frozen=True):
    """Tokens; ``estimated``: counted by events, because nobody told them."""

    output_tokens: int
    input_tokens: int | None = None
    estimated: bool = False


class RunRecord(msgspec.Struct, frozen=True):
    """A run; instants are RFC 3339. See docs/reference/api.md."""

    id: str
    function: str
    state: str
    created_at: str
    started_at: str | None = None
    first_content_at: str | None = None
    ended_at: str | None = None
    attempts: int = 0
    status: int | None = None
    bytes: int = 0
    events: int = 0
    end_reason: str = ""
    error: str = ""
    is_async: bool = msgspec.field(default=False, name="async")
    truncated: bool = False
    unrecorded: str = ""
    usage: RunUsage | None = None
    expired: bool = False


class RunPage(msgspec.Struct, frozen=True):
    """Some runs, and where the next ones are; an empty ``cursor``: there are no more."""

    runs: list[RunRecord]
    cursor: str = ""
