"""``tailrace watchdog``: run any program as a function, as of-watchdog does."""

from __future__ import annotations


def command() -> None:
    """Run the program that fprocess names as a function, by OpenFaaS's variables; an image's entry point.

    \b
    Examples:
      fprocess=cat mode=streaming port=8080 tailrace watchdog
      fprocess='node index.js' mode=http upstream_url=http://127.0.0.1:3000 tailrace watchdog
    """
    from tailrace_runtime.watchdog.standalone import run_watchdog

    raise SystemExit(run_watchdog())
