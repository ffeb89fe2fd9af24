"""Caddy's keeper: a process between the gateway and Caddy that ends Caddy when the gateway is gone.

It is a script, run by Tailrace's own interpreter: only the standard library is used. Standard input brings
one line (Caddy's configuration) and is the lifeline after that: at its end, however it came, the group is
killed. Arguments: Caddy's path, then the descriptors it inherits.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    # Ctrl-C is for the gateway. TERM goes to the group: Caddy ends by it, and we with Caddy. A handler,
    # unlike SIG_IGN, is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    caddy, *fds = sys.argv[1:]
    config = sys.stdin.buffer.readline()
    if not config.endswith(b"\n"):
        return
    child = subprocess.Popen(  # noqa: S603  # the path is our parent's
        [caddy, "run", "--config", "-"], stdin=subprocess.PIPE, stdout=2, pass_fds=[int(fd) for fd in fds]
    )
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is dead already; its last words say why
        child.stdin.write(config)
        child.stdin.close()
    code = child.wait()
    os._exit(code if code >= 0 else 128 - code)


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)  # started by hand, in the group of somebody else's shell


if __name__ == "__main__":
    main()
