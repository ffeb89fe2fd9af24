"""A secret's value as a file or stdin gives it."""

from __future__ import annotations

from typing import BinaryIO

# As Kubernetes has it, so that a secret that works here works there.
LIMIT_BYTES = 1024 * 1024


def take_value(file: BinaryIO, *, trim: bool) -> bytes:
    """The whole value; the limit is on what is left without the white space around it.

    Raises:
        ValueError: it is over 1 MiB.
    """
    data = file.read(2 * LIMIT_BYTES + 1)
    value = data.strip() if trim else data
    if len(value) > LIMIT_BYTES or len(data) > 2 * LIMIT_BYTES:
        raise ValueError("is larger than 1 MiB")
    return value
