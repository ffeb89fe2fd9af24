"""The control plane's routes: one table. All of them are behind `guard.Guard`."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tailrace.control import bundles, functions, info, logs, secrets
from tailrace.control.guard import Auth, Guard
from tailrace.control.parts import Parts
from tailrace.errors import TailraceError

logger = logging.getLogger(__name__)

ROUTES = (
    Route("/system/functions", functions.get_all, methods=["GET"]),
    Route("/system/functions", functions.post, methods=["POST"]),
    Route("/system/functions", functions.put, methods=["PUT"]),
    Route("/system/functions", functions.delete, methods=["DELETE"]),
    Route("/system/function/{name}", functions.get_one, methods=["GET"]),
    Route("/system/bundles/{digest}", bundles.put, methods=["PUT"]),
    Route("/system/secrets", secrets.get_all, methods=["GET"]),
    Route("/system/secrets", secrets.post, methods=["POST"]),
    Route("/system/secrets", secrets.put, methods=["PUT"]),
    Route("/system/secrets", secrets.delete, methods=["DELETE"]),
    Route("/system/logs", logs.get, methods=["GET"]),
    Route("/system/info", info.get_info, methods=["GET"]),
    Route("/system/namespaces", info.get_namespaces, methods=["GET"]),
    Route("/healthz", info.get_health, methods=["GET"]),
)


def build_app(parts: Parts, auth: Auth | None) -> ASGIApp:
    """The control plane as one ASGI application."""
    app = Starlette(
        routes=list(ROUTES),
        exception_handlers={
            TailraceError: _on_tailrace_error,
            HTTPException: _on_http_error,
            Exception: _on_any_error,
        },
    )
    app.state.parts = parts
    return Guard(app, auth)


async def _on_tailrace_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TailraceError)
    return PlainTextResponse(f"{error.text}\n", error.http_status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{error.detail}: {request.method} {request.url.path}\n"
    return PlainTextResponse(text, error.status_code, headers=error.headers)


async def _on_any_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return PlainTextResponse("the gateway failed to answer; its log says why\n", 500)
