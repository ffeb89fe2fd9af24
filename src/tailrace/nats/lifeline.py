"""NATS's keeper: a process between the gateway and nats-server that ends it when the gateway is gone.

It is a script, run by Tailrace's own interpreter: only the standard library is used. Standard input is the
lifeline: at its end, however it came, the group is killed. Arguments: the program, its configuration's file.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    # Ctrl-C is for the gateway. TERM goes to the group: NATS ends by it, and we with NATS.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    program, config = sys.argv[1:]
    child = subprocess.Popen([program, "-c", config], stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603  # our parent's
    threading.Thread(target=_leave_with_parent, daemon=True).start()
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
