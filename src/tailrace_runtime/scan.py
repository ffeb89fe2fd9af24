"""Is a handler async? Asked of its source, because gevent must patch before the handler is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

Manner = Literal["async", "sync", "unknown"]


def scan_manner(source: str) -> Manner:
    """What ``handle`` is, as far as the source of handler.py tells.

    "unknown" when it is imported, assigned, decorated, defined both ways, or not there: then only the
    import can tell. Source that does not parse counts as "sync"; importing it gives the error. An ``app``
    without it is "async", wherever it comes from: nothing but an ASGI app is served by that name.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return "sync"
    statements = list(_top_level(tree.body))
    found = {manner for node in statements if (manner := _manner(node, "handle")) is not None}
    if not found and any(_manner(node, "app") is not None for node in statements):
        return "async"
    return found.pop() if len(found) == 1 else "unknown"


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import in the module's own scope, those inside if, try and with included."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(node, name, None)
            if inner and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _top_level(inner)
        for handler in getattr(node, "handlers", ()):
            yield from _top_level(handler.body)


def _manner(node: ast.stmt, name: str) -> Manner | None:
    """What one statement says of name; None when it does not bind it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if node.name != name:
            return None
        if node.decorator_list:
            return "unknown"
        return "async" if isinstance(node, ast.AsyncFunctionDef) else "sync"
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = {(alias.asname or alias.name) for alias in node.names}
        return "unknown" if names & {name, "*"} else None
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return "unknown" if any(_binds(inner, name) for inner in ast.walk(node)) else None
    return "unknown" if isinstance(node, ast.ClassDef) and node.name == name else None


def _binds(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
