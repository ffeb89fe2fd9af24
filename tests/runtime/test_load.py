"""Hints for imports that fail, and what counts as async."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable

import pytest

from tailrace_runtime.load import import_hint, is_asgi_app, is_async_handle

OR_YOURS = ", or put it beside handler.py if it is a module of yours"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nosuchpackage", f"add 'nosuchpackage' to requirements.txt{OR_YOURS}"),
        ("no_such.part", f"add 'no-such' to requirements.txt{OR_YOURS}"),
        ("cv2", "add 'opencv-python-headless' to requirements.txt"),
        ("sklearn.svm", "add 'scikit-learn' to requirements.txt"),
        ("google.generativeai", "add 'google-generativeai' to requirements.txt"),
        ("google", ""),
        ("json.nothing", ""),
        ("pytest.nothing", ""),
        ("function.helper", ""),
    ],
)
def test_a_missing_module_gives_the_line_to_add(name: str, expected: str) -> None:
    """The package's own name, not the module's; nothing where no line would help."""
    assert expected == import_hint(ModuleNotFoundError("gone", name=name))


def test_the_seeds_import_has_a_hint_of_its_own() -> None:
    """The class that langchain-community dropped: which version still has it, and what replaces it."""
    error = ImportError("cannot import name 'ChatOpenAI'", name="langchain_community.chat_models")

    assert "langchain-community==0.4.1" in import_hint(error)


def test_other_errors_have_no_hint() -> None:
    """A bug in the handler is no line in requirements.txt."""
    assert "" == import_hint(NameError("x"))


async def _coroutine(_: object) -> None: ...


async def _generator(_: object) -> AsyncIterator[int]:
    yield 1


def _plain(_: object) -> None: ...


class _Callable:
    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (_coroutine, True),
        (_generator, True),
        (functools.partial(_generator), True),
        (_Callable(), True),
        (_plain, False),
        (functools.partial(_plain), False),
        (print, False),
    ],
)
def test_what_is_async_is_known_by_its_call(handle: Callable[..., object], expected: bool) -> None:
    """Functions, partials and objects with an async call count; plain ones do not."""
    assert expected == is_async_handle(handle)


async def _app(scope: object, receive: object, send: object) -> None: ...


async def _optional(scope: object, receive: object, send: object, more: object = None) -> None: ...


def _plain_app(scope: object, receive: object, send: object) -> None: ...


class _App:
    async def __call__(self, scope: object, receive: object, send: object) -> None: ...

    async def method(self, scope: object, receive: object, send: object) -> None: ...


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_app, True),
        (_optional, True),
        (_App(), True),
        (_App().method, True),
        (functools.partial(_app), True),
        (_App, False),  # a class is not called with three of them
        (_plain_app, False),
        (_coroutine, False),
        (_generator, False),
        (_Callable(), False),
        (print, False),
        (None, False),
    ],
)
def test_an_asgi_app_is_known_by_its_call(value: object, expected: bool) -> None:
    """A coroutine of exactly scope, receive and send."""
    assert expected == is_asgi_app(value)
