"""Import the handler; say what is wrong, and what to do, when it cannot be imported."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeGuard

Handle = Callable[..., object]
Manner = Literal["sync", "async", "asgi"]

# Names under which packages are imported, where they differ from what pip calls them.
_PACKAGES = {
    "Crypto": "pycryptodome",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google": "",  # dozens of packages share that namespace
    "google.generativeai": "google-generativeai",
    "google.genai": "google-genai",
    "grpc": "grpcio",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "markdown_it": "markdown-it-py",
    "multipart": "python-multipart",
    "MySQLdb": "mysqlclient",
    "nacl": "pynacl",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "telegram": "python-telegram-bot",
    "usb": "pyusb",
    "websocket": "websocket-client",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}


class LoadFailed(Exception):
    """The handler cannot serve. ``error`` is one line; ``trace`` the traceback from the function's own
    code on; ``hint`` the next step or empty."""

    def __init__(self, error: str, *, trace: str = "", hint: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.trace = trace
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Loaded:
    """An imported handler, or ASGI app, and the seconds its import took."""

    handle: Handle
    manner: Manner
    import_s: float


def load_handler(root: str, kind: str) -> Loaded:
    """Import ``function.handler`` from root and find ``handle``, or the ASGI app ``app``, in it.

    What the import made is frozen out of the garbage collector: a collection then takes under 2 ms
    instead of 100-250 ms with LangChain loaded (measured).

    Raises:
        LoadFailed: the import raised, or it is not clear what is to serve.
    """
    sys.path.insert(0, root)
    sys.path.append(str(Path(root, "function")))
    started = time.perf_counter()
    try:
        module = importlib.import_module("function.handler")
    except BaseException as error:
        raise _failure(error, root) from error
    import_s = time.perf_counter() - started
    handle, manner = _find_handle(module, kind)
    gc.collect()
    gc.freeze()
    return Loaded(handle, manner, import_s)


def is_async_handle(handle: Handle) -> bool:
    """Whether calling it gives something to await or an async generator."""
    target: object = handle
    while hasattr(target, "func"):  # functools.partial
        target = target.func
    if not inspect.isroutine(target) and callable(target):
        target = target.__call__
    return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)


def is_asgi_app(value: object) -> TypeGuard[Handle]:
    """Whether it is called as an ASGI 3 app is: a coroutine of exactly scope, receive and send."""
    if not callable(value) or inspect.isclass(value) or not is_async_handle(value):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return len(needed) == 3 and all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in needed)


def _find_handle(module: ModuleType, kind: str) -> tuple[Handle, Manner]:
    handle, app = (getattr(module, name, None) for name in ("handle", "app"))
    if is_asgi_app(app):
        if handle is None or handle is app:
            return app, "asgi"
        raise LoadFailed(
            "handler.py has both 'handle' and an ASGI app named 'app': it is not clear which is to serve",
            hint="Name the one that does not serve otherwise: '_app', or '_handle'.",
        )
    if is_asgi_app(handle):
        return handle, "asgi"
    if kind == "asgi":
        raise LoadFailed("handler.py is expected to contain an ASGI app named 'app'", hint=_app_hint(app))
    if callable(handle):
        return handle, "async" if is_async_handle(handle) else "sync"
    if handle is not None:
        raise LoadFailed(f"handler.py: handle is a {type(handle).__name__}, expected a function")
    own = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
    found = f"; found: {', '.join(map(repr, own[:5]))}" if own else ""
    raise LoadFailed(
        f"handler.py is expected to contain a function named 'handle', or an ASGI app named 'app'{found}",
        hint="Name the function that takes the request 'handle'." if app is None else _app_hint(app),
    )


def _app_hint(app: object) -> str:
    is_one = "An ASGI app is `async def app(scope, receive, send)`, or an object of Starlette or FastAPI"
    return f"{is_one}; this one is a {type(app).__name__}." if app is not None else f"{is_one}."


def _failure(error: BaseException, root: str) -> LoadFailed:
    frames = error.__traceback__
    while frames is not None and not frames.tb_frame.f_code.co_filename.startswith(root):
        frames = frames.tb_next
    trace = "".join(traceback.format_exception(type(error), error, frames))
    if isinstance(error, SystemExit):
        text = f"handler.py ended the process while it was imported: SystemExit({error.code!r})"
    else:
        text = traceback.format_exception_only(type(error), error)[-1].strip()
    return LoadFailed(" ".join(text.split()), trace=trace, hint=import_hint(error))


def import_hint(error: BaseException) -> str:
    """The line to add to requirements.txt for an import that failed; empty when that is no help."""
    if not isinstance(error, ImportError) or not error.name:
        return ""
    if error.name.startswith("langchain_community") and "ChatOpenAI" in str(error):
        return (
            "langchain-community 0.4.2 dropped ChatOpenAI: put 'langchain-community==0.4.1' into "
            "requirements.txt, or import it from langchain_openai"
        )
    top = error.name.partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or top in ("function", "handler"):
        return ""
    package = _PACKAGES.get(".".join(error.name.split(".")[:2]))
    if package is None:
        if top in sys.stdlib_module_names or _is_installed(top):
            return ""  # the package is there, the part of it is not: no new line helps
        package = _PACKAGES.get(top, top.replace("_", "-"))
    if package and top not in _PACKAGES:
        return f"add '{package}' to requirements.txt, or put it beside handler.py if it is a module of yours"
    return f"add '{package}' to requirements.txt" if package else ""


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
