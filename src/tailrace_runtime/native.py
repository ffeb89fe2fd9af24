"""What gevent puts its own in place of, taken while it is still Python's.

For threads that must run while the hub does not. `main` imports this first of all.
"""

from __future__ import annotations

import _thread
import time

start_thread = _thread.start_new_thread
new_lock = _thread.allocate_lock
new_reentrant_lock = _thread.RLock
thread_id = _thread.get_ident
sleep = time.sleep

assert sleep.__module__ == "time", "native is imported before gevent patches"
