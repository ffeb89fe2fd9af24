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

Handle = Callable[..., object]

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
    """An imported handler and the seconds its import took."""

    handle: Handle
    is_async: bool
    import_s: float


def load_handler(root: str) -> Loaded:
    """Import ``function.handler`` from root and find ``handle`` in it.

    What the import made is frozen out of the garbage collector: a collection then takes under 2 ms
    instead of 100-250 ms with LangChain loaded (measured).

    Raises:
        LoadFailed: the import raised, or there is no callable ``handle``.
    """
    sys.path.insert(0, root)
    sys.path.append(str(Path(root, "function")))
    started = time.perf_counter()
    try:
        module = importlib.import_module("function.handler")
    except BaseException as error:
        raise _failure(error, root) from error
    import_s = time.perf_counter() - started
    handle = _find_handle(module)
    gc.collect()
    gc.freeze()
    return Loaded(handle, is_async_handle(handle), import_s)


def is_async_handle(handle: Handle) -> bool:
    """Whether calling it gives something to await or an async generator."""
    target: object = handle
    while hasattr(target, "func"):  # functools.partial
        target = target.func
    if not inspect.isroutine(target) and callable(target):
        target = target.__call__
    return inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)


def _find_handle(module: ModuleType) -> Handle:
    handle = getattr(module, "handle", None)
    if callable(handle):
        return handle  # type: ignore[no-any-return]  # a callable of a module without types
    if handle is not None:
        raise LoadFailed(f"handler.py: handle is a {type(handle).__name__}, expected a function")
    own = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
    found = f"; found: {', '.join(map(repr, own[:5]))}" if own else ""
    raise LoadFailed(
        f"handler.py is expected to contain a function named 'handle'{found}",
        hint="Name the function that takes the request 'handle'.",
    )


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
    return f"add '{package}' to requirements.txt" if package else ""


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
