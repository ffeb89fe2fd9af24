"""Leads a server that binds a fixed port to the replica's own port on loopback, and shows it its secrets.

Python imports this before the program, since its folder stands first in PYTHONPATH of this replica alone.
``TAILRACE_PORTS`` is ``5000,8080,3000:41234``: the ports that mean the replica's own, and that one.
``TAILRACE_SECRET_FILES`` is JSON: where the file of each secret is.
"""

import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _redirect() -> None:
    fixed, _, own = os.environ.get("TAILRACE_PORTS", "").partition(":")
    if not own:
        return
    ports = {int(port) for port in fixed.split(",") if port}
    real = socket.socket.bind

    def bind(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host, port, *rest = address
            if self.type == socket.SOCK_STREAM and port in ports:
                port = int(own)
            host = "::1" if self.family == socket.AF_INET6 else "127.0.0.1"
            address = (host, port, *rest)
        return real(self, address)

    socket.socket.bind = bind


def _show_secrets() -> None:
    files = json.loads(os.environ.get("TAILRACE_SECRET_FILES", "{}"))
    if not files:
        return
    # The runtime's own module; its package is not on this program's path.
    spec = importlib.util.spec_from_file_location(
        "_tailrace_secret_files", _HERE.parents[2] / "secret_files.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SecretFiles(files).install()


def _chain() -> None:
    """Import the sitecustomize that this one stands before, if there is one."""
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != _HERE]
    mine = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401
    except ImportError:
        pass
    finally:
        sys.modules.setdefault("sitecustomize", mine)  # whoever imports this one looks for it


_redirect()
_show_secrets()
_chain()
