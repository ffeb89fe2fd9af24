"""What a model's answer used, read from the events of its stream. Pure.

Providers tell it in one of their last events; a stream that was stopped before has none, and then every
event with content counts as a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tailrace.runs.record import Usage

# The event that tells it is among the last few; anthropic tells the input in its first.
_LOOKED_AT = 8
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_OUTPUT = ("completion_tokens", "output_tokens", "outputTokens")
_INPUT = ("prompt_tokens", "input_tokens", "inputTokens")


def find_usage(pieces: Sequence[bytes], content: int) -> Usage | None:
    """The tokens of an event stream; None when it has no content at all.

    Args:
        content: How many of its events have content.
    """
    output = input_ = None
    for piece in (*pieces[:2], *pieces[-_LOOKED_AT:]):
        match = _USAGE.search(piece)
        if match is None:
            continue
        try:
            told = json.loads(match[1])
        except ValueError:
            continue
        output = _whole(told, _OUTPUT, output)
        input_ = _whole(told, _INPUT, input_)
    is_whole = bool(pieces) and output is not None and _USAGE.search(b"".join(pieces[-_LOOKED_AT:]))
    if is_whole and output is not None:
        return Usage(output, input_)
    return Usage(content, input_, is_estimated=True) if content else None


def _whole(told: dict[str, object], names: tuple[str, ...], before: int | None) -> int | None:
    for name in names:
        value = told.get(name)
        if isinstance(value, int) and 0 <= value < 1 << 40:
            return value
    return before
