"""Where a request target leads: to a function, or to the control plane. Pure."""

from __future__ import annotations

from typing import Final

_FUNCTION: Final = b"/function/"


def route(target: bytes) -> tuple[bytes, bytes] | None:
    """The function's label in a target, and the target the function sees; None: the control plane's.

    The prefix is taken literally and nothing is normalised or decoded, so no spelling of a control path
    can pass for a function's, or the other way round.
    """
    if not target.startswith(_FUNCTION):
        return None
    path, mark, query = target[len(_FUNCTION) :].partition(b"?")
    label, _, rest = path.partition(b"/")
    return label, b"/%b%b%b" % (rest, mark, query)


def is_data_plane(path: str) -> bool:
    """Whether a path is a function's or a run's: open to every Host and Origin, never behind admin auth.

    Who knows a run's id, 130 random bits, may watch and stop it.
    """
    return path.startswith(("/function/", "/async-function/", "/run/"))
