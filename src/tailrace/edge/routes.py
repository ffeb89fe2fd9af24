"""Where a request target leads: to a function, or to the control plane. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tailrace.names import FunctionName, parse_function_name

_FUNCTION = b"/function/"


@dataclass(frozen=True, slots=True)
class FunctionRoute:
    """A call of a function. ``name`` is None when ``label`` is no legal name; ``rest`` is what it sees."""

    label: str
    name: FunctionName | None
    rest: bytes


def route(target: bytes) -> FunctionRoute | None:
    """The function a target calls; None when it is the control plane's.

    The prefix is taken literally and nothing is normalised or decoded, so no spelling of a control path
    can pass for a function's, or the other way round.
    """
    if not target.startswith(_FUNCTION):
        return None
    path, mark, query = target[len(_FUNCTION) :].partition(b"?")
    segment, _, rest = path.partition(b"/")
    label = segment.decode("latin-1")
    return FunctionRoute(label, parse_function_name(label), b"/" + rest + mark + query)


def is_data_plane(path: str) -> bool:
    """Whether a path belongs to functions: open to every Host and Origin, never behind admin auth."""
    return path.startswith(("/function/", "/async-function/"))
