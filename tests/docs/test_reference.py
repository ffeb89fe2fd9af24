"""The reference is complete and true: every setting, error and annotation has its paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import typer

from scripts.lib.docs import BLOCKS, REFERENCE, commands_with, pages, renewed
from tailrace.cli.main import app
from tailrace.control.table import ROWS as ROUTES
from tailrace.edge import ends
from tailrace.edge.clocks import ClockName
from tailrace.errors import TailraceError
from tailrace.settings import ROWS, Row

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_generated_parts_are_what_the_code_says(path: Path) -> None:
    """When this fails: scripts/docs."""
    text = path.read_text()

    assert renewed(text) == text


def test_every_generated_part_has_its_page() -> None:
    """Settings, annotations and commands stand somewhere in the reference."""
    text = "".join(path.read_text() for path in pages())

    assert set(BLOCKS) == set(re.findall(r"<!-- generated: (\w+) -->", text))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_setting_has_its_flag(row: Row) -> None:
    """`serve` takes all of them, `up` those that a person at work changes; the page says which."""
    everyday = ("host", "port", "auth", "state_dir", "log_format", "metrics_port")

    assert commands_with(row.flag) == (["serve", "up"] if row.name in everyday else ["serve"])
    assert f"flag `{row.flag}` of `tailrace serve`" in (REFERENCE / "settings.md").read_text()


def _tree(kind: type[TailraceError]) -> Iterator[type[TailraceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


ERRORS = [kind for kind in _tree(TailraceError) if kind.__module__ == TailraceError.__module__]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_code_has_its_paragraph(kind: type[TailraceError]) -> None:
    """Heading with the code, then status and fault, then what it means."""
    text = (REFERENCE / "errors.md").read_text()
    section = re.search(rf"^### `{kind.code}`\n(.+?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)

    assert section is not None
    assert section[1].startswith(f"{kind.http_status}, {kind.fault}. ")


def test_no_error_is_documented_that_does_not_exist() -> None:
    """A code that is gone loses its paragraph."""
    documented = set(re.findall(r"^### `(\w+)`", (REFERENCE / "errors.md").read_text(), re.MULTILINE))

    assert documented == {kind.code for kind in ERRORS}


def test_error_codes_are_unique() -> None:
    """A code names one class, or nobody could look it up."""
    codes = [kind.code for kind in ERRORS]

    assert sorted(codes) == sorted(set(codes))


def test_every_route_has_its_paragraph() -> None:
    """Control routes are documented by method and path, and none that does not exist."""
    text = (REFERENCE / "api.md").read_text()
    documented = set(re.findall(r"^### `((?:GET|POST|PUT|DELETE) [^`]+)`\n\S", text, re.MULTILINE))

    assert documented == {f"{route.method} {route.path}" for route in ROUTES}


def test_every_end_reason_has_its_row() -> None:
    """The reasons that calls end with, and no others."""
    clocks = {ends.TIMEOUT + name for name in get_args(ClockName)}
    source = Path(ends.__file__).read_text()
    named = set(re.findall(r'^[A-Z_]+ = "(\w+)"$', source, re.MULTILINE)) - {ends.TIMEOUT}
    section = (REFERENCE / "logs.md").read_text().partition("## End reasons")[2]

    assert named | clocks == set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_the_architecture_names_what_exists() -> None:
    """Modules as `package.module` and constants in capitals are found in the code."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    source = ROOT / "src" / "tailrace"
    code = "".join(path.read_text() for path in source.rglob("*.py"))
    modules = re.findall(r"`((?:edge|wire|control|functions|provider|build)\.\w+)`", text)
    constants = re.findall(r"`([A-Z]+_[A-Z_]+)`", text)

    places = [source / name.replace(".", "/") for name in modules]

    assert [place for place in places if not (place.is_dir() or place.with_suffix(".py").is_file())] == []
    assert [name for name in constants if f"{name} = " not in code] == []
    assert modules
    assert constants


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_a_page_names_exist(path: Path) -> None:
    """`tailrace deplo` in a document would be found here."""
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group, untyped
    code = re.findall(r"`tailrace (\w+)|^(?:\$ +)?tailrace (\w+)", path.read_text(), re.MULTILINE)

    assert {first or second for first, second in code} - known == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file of this repository finds it, and its heading."""
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", path.read_text())

    assert [link for link in links if "://" not in link and not _exists(path, link)] == []


def _exists(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name) if name else page
    if not target.exists():
        return False
    return not anchor or target.is_dir() or anchor in _anchors(target.read_text())


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
