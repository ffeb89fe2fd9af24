"""examples/async-callback as its README runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Running, Shell
from tests.kit.served import Serve

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "examples" / "async-callback"


def test_the_example_runs_as_its_readme_says(tmp_path: Path) -> None:
    """Serve, deploy, the key, the receiver, a call: its result comes, signed, after its second try."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    flags = ("--nats-url", "embedded", "--callback-allow-private")
    with serve.start(*flags) as (_, url):
        told(serve, "deploy", "-f", str(EXAMPLE / "stack.yaml"), "--gateway", url)
        key = tmp_path / "callback.key"
        key.write_text(told(serve, "queue", "key", "--gateway", url))
        command = [sys.executable, str(EXAMPLE / "receiver.py"), str(key), "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        receiver = Running(process)
        try:
            callback = receiver.wait_for(r"listening on (\S+)")[1]
            sent = httpx.post(
                f"{url}/async-function/report", content=b"tailraces", headers={"X-Callback-Url": callback}
            )
            name = sent.headers["x-call-id"]
            receiver.wait_for(rf"{name}: report.openfaas-fn answered 200 after [0-9.]+ s, 1 retries")
            receiver.wait_for(r"event: end")
        finally:
            process.kill()
            receiver.wait_end()
            assert process.stdout is not None
            process.stdout.close()

    assert 202 == sent.status_code
    assert "data: tailraces" in re.sub(r" \n", "\n", receiver.text)


def told(serve: Serve, *args: str) -> str:
    """What a command prints."""
    done = serve.shell.run(*args)
    assert 0 == done.returncode, done.stderr
    return done.stdout
