"""``/ui/``: one page that shows the functions and what they do. `/` leads to it."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tailrace.errors import NotFound

_FOLDER = Path(__file__).parent / "ui"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FILES = {path.name: path for path in sorted(_FOLDER.iterdir()) if path.suffix in _KINDS}
# The page loads what lies beside it and asks this gateway; nothing else, and nobody may frame it.
_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def get_root(_: Request) -> Response:
    return RedirectResponse("/ui/", 307)


async def get_page(_: Request) -> Response:
    return _file("index.html")


async def get_file(request: Request) -> Response:
    """A file that the page needs; a name is looked up among those there are, never opened as a path."""
    return _file(request.path_params["file"])


def _file(name: str) -> Response:
    path = _FILES.get(name)
    if path is None:
        raise NotFound(f"the page has no file '{name[:80]}'")
    return Response(path.read_bytes(), media_type=_KINDS[path.suffix], headers=_HEADERS)
