"""``/v1/embeddings`` of the mock: vectors that are alike for texts that share words."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct

from tailrace.errors import InvalidRequest

DIMENSIONS = 64
_MAX_TEXTS = 2048


def embed(body: bytes) -> dict[str, object]:
    """The answer to a request, as OpenAI's endpoint gives it.

    Raises:
        InvalidRequest: it is no JSON object with one text or a list of them as ``input``.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    asked = fields.get("input") if isinstance(fields, dict) else None
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list) or not 0 < len(texts) <= _MAX_TEXTS:
        raise InvalidRequest(f"'input' is neither a text nor a list of 1 to {_MAX_TEXTS} texts")
    if not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest("'input' holds something that is no text, or is empty")
    packed = fields.get("encoding_format") == "base64"
    rows = [
        {"object": "embedding", "index": index, "embedding": _packed(row) if packed else row}
        for index, row in enumerate(map(vector, texts))
    ]
    tokens = sum(len(text) // 4 + 1 for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": fields.get("model", "mock"), "data": rows, "usage": usage}


def vector(text: str) -> list[float]:
    """A text's vector of length 1: each of its words adds one to a place of its own."""
    counts = [0.0] * DIMENSIONS
    for word in text.lower().split() or [text]:
        counts[hashlib.sha256(word.encode("utf-8", "replace")).digest()[0] % DIMENSIONS] += 1.0
    length = math.sqrt(sum(count * count for count in counts))
    return [count / length for count in counts]


def _packed(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
