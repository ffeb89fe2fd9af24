"""The ``index.py`` of OpenFaaS's Python templates, known again by fingerprint, never by likeness.

A template is copied into every project, so its server may be anybody's. One that is known to do what a
template of ours does is not run: the runtime serves the handler instead, and streams better. Any other runs
as it stands. Comments, docstrings, blank lines, quotes and where packages are looked for make no difference.
"""

from __future__ import annotations

import ast
import hashlib

from tailrace.build.templates import Kind

# Those that are known have under 3 KiB; what is longer is another.
_LIMIT_CHARACTERS = 8 * 1024
# Of python-flask-template (MIT); computed with `fingerprint`. Older ones that hand bytes to `handle(req)` are
# not among them: the runtime hands over text.
STOCK: dict[str, Kind] = {
    "c488d9db8cd0fcba4d68cb3baf63997e183bd13ea12b886b14ebdc808bef809c": "flask",
    "10279f5a54d461da59cdf72625f886a88cb4eefd83e813a44a3e572173d8d9c5": "http",
    "bfb96b67f9362538f65c75775bc8970d2cb6a3bfd2e2932ca5fdd8082b22c2dd": "http",  # an earlier one
    "198b3bc9f6b39ed395efb3de7f8810a2b2c77558b335b13176e13004a3666614": "http",  # the one before
    "ffc74a916513c629842fe363635faddc8778d8d8a17731c326b77443cc23879a": "http",  # -debian
    "8f6d867c67f77c8aeedcaeb9c3871f337bd4aca42bf03839d99728c9f3b094ee": "http",  # -debian, earlier
}


def fingerprint(text: str) -> str | None:
    """SHA-256 of what the program says; None when it is too long or no Python."""
    if len(text) > _LIMIT_CHARACTERS:
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    tree.body = [statement for statement in tree.body if not _only_finds_packages(statement)]
    try:
        return hashlib.sha256(_canonical(tree).encode()).hexdigest()
    except RecursionError:
        return None


def kind_of(text: str, known: dict[str, Kind] | None = None) -> Kind | None:
    """Which adapter of the runtime does what this ``index.py`` does; None when it is not known to be stock.

    Args:
        known: Fingerprints; None is `STOCK`.
    """
    found = fingerprint(text)
    return (STOCK if known is None else known).get(found) if found else None


def _only_finds_packages(statement: ast.stmt) -> bool:
    """``import site`` and ``site.addsitedir("/home/app/python")``: where an image keeps its packages."""
    match statement:
        case ast.Import(names=[ast.alias(name="site", asname=None)]):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="site"), attr="addsitedir"))):
            return True
    return False


def _canonical(node: object) -> str:
    """The tree as text, the same under every Python: without places, contexts, and what is empty."""
    if isinstance(node, ast.AST):
        inner = ((name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind"))
        shown = (f"{name}={_canonical(value)}" for name, value in inner if value is not None and value != [])
        return f"{type(node).__name__}({','.join(shown)})"
    if isinstance(node, list):
        return f"[{','.join(_canonical(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
