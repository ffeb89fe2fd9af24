"""The keeper of a child: a process between the gateway and a program that ends it when the gateway is gone.

It is a script, run by Tailrace's own interpreter: only the standard library is used. Standard input brings
one line, which is the program's standard input, and is the lifeline after that: at its end, however it came,
the group is killed. Arguments: the descriptors that the program inherits, with commas; it; its arguments.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    # Ctrl-C is for the gateway. TERM goes to the group: the program ends by it, and we with the program. A
    # handler, unlike SIG_IGN, is not inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    fds, *command = sys.argv[1:]
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return
    child = subprocess.Popen(  # noqa: S603  # our parent's
        command, stdin=subprocess.PIPE, stdout=2, pass_fds=[int(fd) for fd in fds.split(",") if fd]
    )
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it is dead already; its last words say why
        child.stdin.write(line)
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
