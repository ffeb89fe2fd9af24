"""The guide for moving from OpenFaaS is true: its commands are run, one after the other, on a project."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.cli import Shell
from tests.kit.needs import needs_curl, needs_program

pytestmark = pytest.mark.slow
GUIDE = Path(__file__).parents[2] / "docs/how-to/migrate-from-openfaas.md"
GATEWAY = "http://127.0.0.1:8080"
STACK = """
version: 1.0
provider:
  name: openfaas
  gateway: GATEWAY
functions:
  hello:
    lang: python3-flask-debian
    handler: ./hello
    image: ghcr.io/lab/hello:0.1
    environment:
      exec_timeout: 5m
      RAW_BODY: "true"
    secrets:
      - api-key
    labels:
      com.openfaas.scale.min: "1"
    annotations:
      topic: cron-function
      schedule: "*/5 * * * *"
    limits:
      memory: 128Mi
"""
HANDLER = """
def handle(req):
    with open("/var/openfaas/secrets/api-key") as file:
        return f"{req.decode()} and {file.read()}"
"""


def commands() -> list[str]:
    """What stands behind a prompt in the guide."""
    blocks = re.findall(r"^```console\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line[:2] == "$ "]


@dataclass(frozen=True)
class Project:
    """A folder with a stack file of OpenFaaS, and a shell that finds `tailrace`."""

    folder: Path

    def lay_out(self, gateway: str) -> None:
        (self.folder / "hello").mkdir()
        (self.folder / "hello/handler.py").write_text(HANDLER)
        (self.folder / "hello/requirements.txt").write_text("")
        (self.folder / "stack.yaml").write_text(STACK.replace("GATEWAY", gateway))
        (self.folder / "api-key.txt").write_text("s3cret")
        program = self.folder / "bin/tailrace"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nexec {sys.executable} -c "from tailrace.cli.main import main; main()" "$@"\n'
        )
        program.chmod(0o755)

    def run(self, command: str, gateway: str) -> str:
        """What it said on stdout; fails with all of it when the command did."""
        path = os.pathsep.join((str(self.folder / "bin"), os.environ["PATH"]))
        env = {"PATH": path, "HOME": str(self.folder), "OPENFAAS_URL": gateway}
        done = subprocess.run(
            ["/bin/sh", "-c", command.replace(GATEWAY, gateway)], cwd=self.folder, env=env, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def test_every_command_of_the_guide_does_its_work(tmp_path: Path) -> None:
    """From the payload secret to the log of a function that answers; faas-cli's where there is one."""
    needs_curl()
    needs_program("openssl", "sudo apt-get install -y openssl")
    first, serve, *rest = commands()
    project = Project(tmp_path)
    subprocess.run(["/bin/sh", "-c", first], cwd=tmp_path, check=True)
    said: dict[str, str] = {}
    args = shlex.split(serve.removeprefix("tailrace "))
    with Shell(tmp_path).start(*args, "--port", "0", "--state-dir", "state") as running:
        password = running.wait_for(r"password (\S+)")[1]
        gateway = running.wait_for(r"^tailrace +listening on (\S+)$")[1]
        project.lay_out(gateway)
        (tmp_path / "password.txt").write_text(f"{password}\n")
        for command in rest:
            if shutil.which(command.split()[0]) or command.startswith("tailrace "):
                said[command] = project.run(command, gateway)

    assert said["curl -N http://127.0.0.1:8080/function/hello -d hi"] == "hi and s3cret"
    assert "hello" in said["tailrace list --verbose"]
    assert len(said) >= len([command for command in rest if not command.startswith("faas-cli ")])
