"""``GET /openapi.json``: the control API as an OpenAPI 3.1 document, made from the table of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

import tailrace

# The type of a JSON value, a media type, or nothing.
Content = Any
Document = dict[str, Any]

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}
# What any route may refuse with, and why.
_REFUSALS = {
    400: "The request is not what is expected; the text says what is.",
    403: "The request comes from a foreign page or, without auth, from another name.",
}
_WITH_BODY = {413: "The body is too large.", 415: "The body is of another content type."}
_WITH_AUTH = {401: "The admin's password is needed.", 429: "Too many wrong passwords came from this address."}
_WORDS = {
    401: "The signature is missing or wrong.",
    404: "There is no such thing.",
    408: "The body did not come in time.",
    409: "It is there already.",
    422: "The idempotency key came with another request before.",
    429: "Too many of these run already.",
    410: "It is no longer kept.",
    500: "It could not be done.",
    503: "What is needed for it does not answer.",
}


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query: its name, its JSON type, what it means."""

    name: str
    kind: str
    words: str
    is_required: bool = False


class Described(Protocol):
    """What the document tells of a route: `table.Row` has it."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def replies(self) -> Mapping[int, Content]: ...
    @property
    def errors(self) -> tuple[int, ...]: ...
    @property
    def body(self) -> Content: ...
    @property
    def query(self) -> tuple[Query, ...]: ...
    @property
    def is_public(self) -> bool: ...


async def get(request: Request) -> Response:
    """The document of this gateway."""
    return Response(request.app.state.document, media_type="application/json")


def describe(rows: Iterable[Described], *, has_auth: bool) -> bytes:
    """The document of these routes, as JSON.

    Args:
        has_auth: Whether the gateway asks for the admin's password.
    """
    rows = list(rows)
    shapes = [shape for row in rows for shape in (row.body, *row.replies.values()) if _is_shape(shape)]
    schemas, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    found = dict(zip(map(repr, shapes), schemas, strict=True))
    paths: dict[str, Document] = {}
    for row in rows:
        path = row.path.replace(":path}", "}")
        paths.setdefault(path, {})[row.method.lower()] = _operation(row, found, has_auth=has_auth)
    document: Document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tailrace",
            "version": tailrace.__version__,
            "description": "The control API. Functions answer below /function/NAME, with what they like.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"admin": {"type": "http", "scheme": "basic"}},
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _operation(row: Described, schemas: Mapping[str, Document], *, has_auth: bool) -> Document:
    is_open = row.is_public or not has_auth
    replies: Document = {str(status): _reply(row, status, schemas) for status in row.replies}
    for status, words in _refusals(row, is_open=is_open):
        replies.setdefault(str(status), {"description": words, **_TEXT})
    operation: Document = {
        "summary": row.words,
        "operationId": re.sub(r"\W+", "-", f"{row.method.lower()}{row.path}").strip("-"),
        "parameters": [*_path_parameters(row.path), *map(_query_parameter, row.query)],
        "responses": replies,
        "security": [] if is_open else [{"admin": []}],
    }
    if row.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(row.body, schemas)}
    return operation


def _refusals(row: Described, *, is_open: bool) -> Iterator[tuple[int, str]]:
    yield from _REFUSALS.items()
    if row.body is not None:
        yield from _WITH_BODY.items()
    if not is_open:
        yield from _WITH_AUTH.items()
    for status in row.errors:
        yield status, _WORDS[status]


def _reply(row: Described, status: int, schemas: Mapping[str, Document]) -> Document:
    content = row.replies[status]
    words = "Done." if content is None else "As it is."
    return {"description": words, **({} if content is None else {"content": _content(content, schemas)})}


def _content(content: Content, schemas: Mapping[str, Document]) -> Document:
    if isinstance(content, str):
        return {content: {}}
    return {"application/json": {"schema": schemas[repr(content)]}}


def _is_shape(content: Content) -> bool:
    return content is not None and not isinstance(content, str)


def _path_parameters(path: str) -> list[Document]:
    names = re.findall(r"\{(\w+)(?::path)?\}", path)
    return [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]


def _query_parameter(query: Query) -> Document:
    return {
        "name": query.name,
        "in": "query",
        "required": query.is_required,
        "description": query.words,
        "schema": {"type": query.kind},
    }
