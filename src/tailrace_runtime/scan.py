"""Is a handler async? Asked of its source, because gevent must patch before the handler is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

Manner = Literal["async", "sync", "unknown"]


def scan_manner(source: str) -> Manner:
    """What ``handle`` is, as far as the source of handler.py tells.

    "unknown" when it is imported, assigned, decorated, defined both ways, or not there: then only the
    import can tell. Source that does not parse counts as "sync"; importing it gives the error.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return "sync"
    found = {manner for manner in map(_manner, _top_level(tree.body)) if manner is not None}
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


def _manner(node: ast.stmt) -> Manner | None:
    """What one statement says of ``handle``; None when it does not bind that name."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if node.name != "handle":
            return None
        if node.decorator_list:
            return "unknown"
        return "async" if isinstance(node, ast.AsyncFunctionDef) else "sync"
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = {(alias.asname or alias.name) for alias in node.names}
        return "unknown" if names & {"handle", "*"} else None
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return "unknown" if any(map(_binds_handle, ast.walk(node))) else None
    return "unknown" if isinstance(node, ast.ClassDef) and node.name == "handle" else None


def _binds_handle(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "handle" and isinstance(node.ctx, ast.Store)
