"""The units in deploy/systemd are what this gateway needs."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from tailrace.cli.main import app
from tailrace.ports import handed_in
from tailrace.settings import load

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SETTINGS = UNITS / "settings.toml"


def section(unit: str, name: str) -> dict[str, str]:
    """One section of a unit file."""
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # its documented way to keep case
    parser.read(UNITS / unit)
    return dict(parser[name])


@pytest.mark.parametrize(("key", "command"), [("ExecStart", "serve"), ("ExecReload", "reload")])
def test_the_commands_are_understood(key: str, command: str) -> None:
    """Each option exists and takes its value."""
    program, verb, *args = shlex.split(section("tailrace.service", "Service")[key])
    group = typer.main.get_command(app)
    parsed = group.commands[verb].make_context(verb, args)  # type: ignore[attr-defined]  # a group, untyped

    assert ("/opt/tailrace/bin/tailrace", command) == (program, verb)
    assert "/var/lib/tailrace/state" == parsed.params["state_dir"]


def test_the_settings_are_taken_and_leave_time_to_drain() -> None:
    """systemd kills later than the gateway gives up; it asks the gateway alone to stop."""
    service = section("tailrace.service", "Service")
    settings = load({"settings": SETTINGS}, {})

    assert "mixed" == service["KillMode"]
    assert settings.drain_s + 5 < float(service["TimeoutStopSec"])
    commented = re.sub(r"(?m)^# (?=\w+ = )", "", SETTINGS.read_text())
    assert commented.count(" = ") == 5


def test_the_commented_settings_are_valid_too(tmp_path: Path) -> None:
    """Whoever takes one in finds that it works."""
    file = tmp_path / "settings.toml"
    file.write_text(re.sub(r"(?m)^# (?=\w+ = )", "", SETTINGS.read_text()))

    settings = load({"settings": file}, {})

    assert ["drain_s", "log_format", "trusted_proxies", "tls_cert", "tls_key"] == [
        name for name, source in settings.sources.items() if source == "file"
    ]


def test_the_socket_is_found_by_its_name() -> None:
    """Also where the service is handed others."""
    name = section("tailrace.socket", "Socket")["FileDescriptorName"]

    assert 4 == handed_in({"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": f"other:{name}"}, 1)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """Every key is known, in the right section, with a value of its kind."""
    for unit in ("tailrace.service", "tailrace.socket"):
        text = (UNITS / unit).read_text().replace("/opt/tailrace/bin/tailrace", "/bin/true")
        (tmp_path / unit).write_text(text.replace("=tailrace\nGroup=tailrace", "=root\nGroup=root"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "./tailrace.service"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (0, "") == (done.returncode, done.stderr)
