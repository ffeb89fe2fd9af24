"""The lines of the call log among the other lines of a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.cli.logview import LogView, Piece
from tailrace.cli.outlet import Outlet

if TYPE_CHECKING:
    from tailrace.edge.calllog import Sink


def as_they_are(view: LogView, out: Outlet) -> Sink:
    """Each on a line of its own without anything in front, for whoever collects them."""

    def take(data: bytes) -> bool:
        view.end_line()
        out.flush()
        return out.offer(data)

    return take


def as_words_of_ours(view: LogView, out: Outlet) -> Sink:
    """As the platform's other lines, for whoever sees them come: without the time."""

    def take(data: bytes) -> bool:
        if not out.has_room:
            return False
        text = "".join(f"{line.partition(' ')[2]}\n" for line in data.decode("ascii").splitlines())
        view.show(Piece("tailrace", "calls", text, is_platform=True))
        return True

    return take
