"""A page in Chromium that a test drives: what a person would do, through the browser's own protocol.

Over a pipe instead of a port, so that nothing listens. Source: Chrome DevTools Protocol, version 1.3.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.kit.clients import FLAGS, needs_chromium

LIMIT_S = 20.0


class Page:
    """One page. Its JavaScript is asked by expressions; what those return is JSON."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session = ""

    def open(self, url: str) -> None:
        """Show this URL in a new page."""
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._do("Page.enable")
        self.go(url)

    def go(self, url: str) -> None:
        """Go there, and wait until it has loaded."""
        failed = self._do("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.wait("document.readyState === 'complete'")

    def reload(self) -> None:
        """What the reload button does."""
        self.ask("window.isOld = true")
        self._do("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'")

    def ask(self, expression: str) -> Any:
        """What it evaluates to, once a promise has resolved.

        Raises:
            AssertionError: it threw.
        """
        found = self._do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, *, timeout_s: float = LIMIT_S) -> Any:
        """Ask until it is true.

        Raises:
            AssertionError: it was not within timeout_s; with what the page says then.
        """
        until = time.monotonic() + timeout_s
        while not (found := self._try(expression)):
            assert time.monotonic() < until, f"not {expression}: {self._try('document.body.innerText')!r}"
            time.sleep(0.02)
        return found

    def picture(self, path: Path, *, width: int = 900, height: int = 700) -> None:
        """What it looks like, as a PNG."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._do("Emulation.setDeviceMetricsOverride", **size)
        path.write_bytes(base64.b64decode(self._do("Page.captureScreenshot", format="png")["data"]))

    def set_dark(self) -> None:
        """As for a person who likes it dark."""
        self._do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def set_offline(self, is_offline: bool) -> None:
        """As when the network goes and comes back."""
        self._do("Network.enable")
        limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._do("Network.emulateNetworkConditions", offline=is_offline, **limits)

    def set_frozen(self, is_frozen: bool) -> None:
        """As a browser does with a tab that was hidden for long."""
        self._do("Page.setWebLifecycleState", state="frozen" if is_frozen else "active")

    def _try(self, expression: str) -> Any:
        try:
            return self.ask(expression)
        except _Failed:
            return None  # the page is on its way to another document

    def _do(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") != number:
                continue  # an event, which nobody waits for
            if "error" in told:
                raise _Failed(f"{method}: {told['error']}")
            result: dict[str, Any] = told["result"]
            return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], LIMIT_S)
            assert ready, f"Chromium said nothing for {LIMIT_S:g} s"
            data = os.read(self._read, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told


class _Failed(Exception):
    """The browser could not do what it was told."""


@contextlib.contextmanager
def page(url: str) -> Iterator[Page]:
    """Chromium with a profile of its own, showing this URL; it and its children are gone at the end."""
    ours, to_browser = os.pipe()[::-1]
    from_browser, theirs = os.pipe()
    with tempfile.TemporaryDirectory(prefix="tailrace-chromium-", ignore_cleanup_errors=True) as profile:
        # It reads from descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{theirs}'
        command = [needs_chromium(), *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            ["bash", "-c", script, "bash", *command], pass_fds=(to_browser, theirs),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_browser)
        os.close(theirs)
        try:
            shown = Page(ours, from_browser)
            shown.open(url)
            yield shown
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            os.close(ours)
            os.close(from_browser)
