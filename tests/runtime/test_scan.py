"""Async or sync, read from the source alone."""

from __future__ import annotations

import pytest

from tailrace_runtime.scan import scan_manner


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def handle(req): ...", "sync"),
        ("async def handle(event, context): yield 1", "async"),
        ("try:\n  import x\nexcept ImportError:\n  pass\nasync def handle(e, c): ...", "async"),
        ("if True:\n  async def handle(e, c): ...\nelse:\n  async def handle(e, c): ...", "async"),
        ("if x:\n  def handle(e): ...\nelse:\n  async def handle(e): ...", "unknown"),
        ("try:\n  def handle(e): ...\nexcept E:\n  async def handle(e): ...", "unknown"),
        ("class A:\n  async def handle(self): ...\ndef handle(e): ...", "sync"),
        ("def outer():\n  async def handle(e): ...\ndef handle(e): ...", "sync"),
        ("@wrapped\ndef handle(e): ...", "unknown"),
        ("from .impl import handle", "unknown"),
        ("from impl import run as handle", "unknown"),
        ("from impl import *", "unknown"),
        ("def handle(e): ...\nhandle = wrap(handle)", "unknown"),
        ("a, handle = make()", "unknown"),
        ("class handle: ...", "unknown"),
        ("x = 1", "unknown"),
        ("def handle(:", "sync"),
        ("", "unknown"),
        ("async def app(scope, receive, send): ...", "async"),
        ("app = FastAPI()", "async"),
        ("from web import app", "async"),
        ("app = FastAPI()\ndef handle(req): ...", "sync"),
        ("app = FastAPI()\nfrom web import *", "unknown"),
        ("def apply(): ...\nx = app", "unknown"),
    ],
)
def test_the_source_tells_what_handle_is(source: str, expected: str) -> None:
    """Decided only where the source leaves no doubt; the import settles the rest."""
    assert expected == scan_manner(source)
