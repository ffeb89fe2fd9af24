"""Whether this installation's data path is compiled (docs/decisions/0006)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal


def data_path() -> Literal["compiled", "pure Python"]:
    """What a wheel for this platform brings, or what a clone runs. Imports nothing of the edge."""
    found = find_spec("tailrace.edge.call")
    assert found is not None
    assert found.origin is not None
    return "pure Python" if found.origin.endswith(".py") else "compiled"
