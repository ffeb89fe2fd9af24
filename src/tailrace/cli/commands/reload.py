"""``tailrace reload``: a running `tailrace serve` reads its settings again."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tailrace.cli import settingflags as flags
from tailrace.cli.result import Result, finish
from tailrace.errors import GatewayUnreachable, InvalidRequest, NotAllowed

if TYPE_CHECKING:
    from pathlib import Path

    from tailrace.cli.reloading import Report
    from tailrace.state import Owner

# A gateway answers within a turn of its loop; one that is started anew meanwhile never does.
_ANSWER_S = 10.0
_LOOK_S = 0.02


@flags.takes_settings("state_dir", "settings")
def command(**options: object) -> None:
    """Have the `tailrace serve` of this machine read its settings file again, and tell what changed.

    The gateway is found through its state directory. Exit code 1 when it refused the settings; then it
    goes on with those it has.

    \b
    Examples:
      tailrace reload
      tailrace reload --state-dir /var/lib/tailrace
    """
    from tailrace.settings import load

    report = reload(load(flags.given(options)).state_dir)
    if not report.is_done:
        raise InvalidRequest(report.text)
    finish(Result(report.text))


def reload(state_dir: Path) -> Report:
    """Ask the gateway that owns this state directory, and wait for what it says.

    Raises:
        GatewayUnreachable: none runs there, it does not reload, or it does not answer.
        NotAllowed: it runs as another user.
    """
    from tailrace.cli.reloading import read_report
    from tailrace.state import find_owner

    owner, before = find_owner(state_dir), read_report(state_dir)
    if owner is None:
        raise GatewayUnreachable(
            f"no gateway runs with the state directory '{state_dir}'",
            hint="Name the one it was started with: --state-dir DIR or TAILRACE_STATE_DIR.",
        )
    if before is None or before.pid != owner.pid:
        raise GatewayUnreachable(
            f"the gateway of '{state_dir}' takes no reload: {owner}",
            hint="Only `tailrace serve` does, from the moment it listens.",
        )
    _signal(owner, signal.SIGHUP)
    return _wait_for_answer(state_dir, owner, before)


def _signal(owner: Owner, number: int) -> None:
    try:
        os.kill(owner.pid, number)
    except ProcessLookupError:
        raise GatewayUnreachable(f"the gateway has just ended: {owner}") from None
    except PermissionError:
        raise NotAllowed(f"this user may not signal the gateway: {owner}", hint="Be its user.") from None


def _wait_for_answer(state_dir: Path, owner: Owner, before: Report) -> Report:
    from tailrace.cli.reloading import read_report

    until = time.monotonic() + _ANSWER_S
    while time.monotonic() < until:
        report = read_report(state_dir)
        if report is not None and report.pid == owner.pid and report.count > before.count:
            return report
        _signal(owner, 0)  # only asks whether it is there
        time.sleep(_LOOK_S)
    raise GatewayUnreachable(
        f"the gateway did not say within {_ANSWER_S:g} s what the reload came to: {owner}",
        hint="Its log tells.",
    )
