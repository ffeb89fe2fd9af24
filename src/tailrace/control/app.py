"""The control plane as one ASGI application: the routes of `table`, behind `guard.Guard` and `cors.Cors`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tailrace.control.cors import Cors
from tailrace.control.guard import Auth, Guard
from tailrace.control.openapi import describe
from tailrace.control.parts import Parts
from tailrace.control.serve import Cut
from tailrace.control.table import ROWS, Answerer
from tailrace.errors import QueueFull, TailraceError

logger = logging.getLogger(__name__)


def build_app(parts: Parts, auth: Auth | None) -> ASGIApp:
    """The control plane as one ASGI application."""
    app = Starlette(
        routes=list(_routes()),
        exception_handlers={
            TailraceError: _on_tailrace_error,
            HTTPException: _on_http_error,
            Exception: _on_any_error,
        },
    )
    app.router.redirect_slashes = False  # a path is what it is
    app.state.parts = parts
    app.state.document = describe(ROWS, has_auth=auth is not None)
    guarded = Guard(app, auth, [(row.method, row.path) for row in ROWS if row.is_public])
    # Outside: a browser's question carries no password.
    return Cors(guarded, parts.settings.cors_origins, with_loopback=auth is None)


def _routes() -> Iterator[Route]:
    """One route for each path, so that a method it does not have is answered with all that it has."""
    by_path: dict[str, dict[str, Answerer]] = {}
    for row in ROWS:
        by_path.setdefault(row.path, {})[row.method] = row.answer
    for path, answers in by_path.items():
        yield Route(path, _choosing(answers), methods=list(answers))


def _choosing(answers: dict[str, Answerer]) -> Answerer:
    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return answer


async def _on_tailrace_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TailraceError)
    later = {"Retry-After": "10"} if isinstance(error, QueueFull) else None
    return PlainTextResponse(f"{error.text}\n", error.http_status, headers=later)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{error.detail}: {request.method} {request.url.path}\n"
    return PlainTextResponse(text, error.status_code, headers=error.headers)


async def _on_any_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, Cut):
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return PlainTextResponse("the gateway failed to answer; its log says why\n", 500)
