"""The parts of docs/reference that are made from the code: run it (scripts/docs) to write them anew.

A page keeps its own words; what stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is ours.
`tests/docs/test_reference.py` fails when a page is behind the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tailrace.options import OPTIONS
from tailrace.settings import ROWS, Row

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_block() -> Iterator[str]:
    """One section per setting of the gateway."""
    for row in ROWS:
        unit = f" {row.unit}" if row.unit else ""
        yield f"### `{row.name}`\n\n"
        yield f"{row.sentence}\n\n"
        yield f"Environment `{row.env}`, flag `{row.flag}`. Default: `{_default(row)}`{unit}.\n\n"


def _default(row: Row) -> str:
    # The real default depends on the platform and the user; Linux's stands for it.
    return "~/.local/share/tailrace" if row.name == "state_dir" else row.default


def annotations_block() -> Iterator[str]:
    """One section per annotation."""
    for option in OPTIONS:
        values = ", ".join(f"`{choice}`" for choice in option.choices)
        default = f"`{option.default}`" if option.default else "detected"
        yield f"### `{option.key}`\n\n{option.sentence}\n\nValues: {values}. Default: {default}.\n\n"


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings_block,
    "annotations": annotations_block,
}


def renewed(page: str) -> str:
    """A page's text with its generated parts as the code has them now."""
    return _BLOCK.sub(lambda m: f"{m[1]}\n{''.join(BLOCKS[m[2]]())}{m[3]}", page)


def pages() -> list[Path]:
    """The pages that have a generated part."""
    return [path for path in sorted(REFERENCE.glob("*.md")) if _BLOCK.search(path.read_text())]


if __name__ == "__main__":
    for path in pages():
        path.write_text(renewed(path.read_text()))
