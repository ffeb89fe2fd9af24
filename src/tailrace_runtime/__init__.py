"""What stands beside a function: loads its handler and serves it on a unix socket.

A function may import from here: ``from tailrace_runtime import Event``.
"""

from tailrace_runtime.sse import Event

__all__ = ["Event"]
