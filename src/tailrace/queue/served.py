"""Which functions a worker serves, and what holds for their calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tailrace.functions.table import Table
from tailrace.names import parse_function_name
from tailrace.retries import Retries


@dataclass(frozen=True, slots=True)
class Served:
    """One function. ``places``: calls that its replicas answer at once; 0: that is not bounded."""

    retries: Retries
    places: int = 0


class Functions(Protocol):
    """The functions that can be called."""

    async def find(self, name: str) -> Served | None:
        """What holds for ``name.namespace``; None when it is not deployed there.

        Raises:
            GatewayUnreachable: there is no gateway to ask.
        """


class TableFunctions:
    """Those of this gateway."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def find(self, name: str) -> Served | None:
        """As the protocol says."""
        parsed = parse_function_name(name)
        function = self._table.get(parsed) if parsed is not None else None
        if function is None:
            return None
        places = function.options.concurrency * max(1, function.wished)
        return Served(function.options.retries, places)
