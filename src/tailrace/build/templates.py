"""The templates that ship in the package: what ``lang`` may say, and the starter of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailrace.errors import InvalidDeployment
from tailrace.names import nearest

Kind = Literal["flask", "http", "stream", "asgi"]

_FOLDER = Path(__file__).resolve().parent.parent / "templates"
# Which adapter of the runtime serves the handler. Held against the templates' own files by a test.
_KINDS: dict[str, Kind] = {
    "python3-flask": "flask",
    "python3-flask-debian": "flask",
    "python3-http": "http",
    "python3-http-debian": "http",
    "python3-stream": "stream",
    "python3-asgi": "asgi",
}


@dataclass(frozen=True, slots=True)
class Template:
    """A template: ``path`` is its folder with ``template.yml`` and ``function/``."""

    name: str
    kind: Kind
    path: Path


def template_names() -> tuple[str, ...]:
    """Every ``lang`` there is, sorted."""
    return tuple(sorted(_KINDS))


def find_template(lang: str) -> Template:
    """The template that ``lang`` names.

    Raises:
        InvalidDeployment: there is none of that name; the hint has the nearest.
    """
    kind = _KINDS.get(lang)
    if kind is None:
        near = nearest(lang, _KINDS)
        hint = f"Did you mean '{near}'?" if near else f"There are: {', '.join(template_names())}."
        raise InvalidDeployment(f"there is no template '{lang}'", hint=hint)
    return Template(lang, kind, _FOLDER / lang)
