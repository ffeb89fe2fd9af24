"""cli.credentials: the file that faas-cli writes is read, and what we write it can read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tailrace.cli.credentials import config_path, find_authorization, save_basic
from tailrace.errors import TailraceError

# As recorded from faas-cli 0.18.12.
FAAS_CLI = """\
auths:
  - gateway: http://127.0.0.1:18080
    auth: basic
    token: YWRtaW46bGFicGFzcw==
  - gateway: https://sso.example.com
    auth: oauth2
    token: eyJ0
    options: []
"""


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.openfaas/config.yml"),
        ({"HOME": "/h", "OPENFAAS_CONFIG": "/c"}, "/c/config.yml"),
        ({"HOME": "/h", "CI": "true"}, ".openfaas/config.yml"),
        ({"HOME": "/h", "CI": "1"}, ".openfaas/config.yml"),
        ({"HOME": "/h", "CI": "false"}, "/h/.openfaas/config.yml"),
    ],
)
def test_the_file_is_where_faas_cli_has_it(env: dict[str, str], expected: str) -> None:
    """Contract 1.4."""
    assert config_path(env) == Path(expected)


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ("http://127.0.0.1:18080", "Basic YWRtaW46bGFicGFzcw=="),
        ("HTTP://127.0.0.1:18080/", "Basic YWRtaW46bGFicGFzcw=="),
        ("https://sso.example.com", "Bearer eyJ0"),
        ("http://127.0.0.1:8080", ""),
    ],
)
def test_each_gateway_has_its_credentials(tmp_path: Path, gateway: str, expected: str) -> None:
    """Nobody else's password is ever sent."""
    (tmp_path / "config.yml").write_text(FAAS_CLI)

    assert find_authorization(gateway, {"OPENFAAS_CONFIG": str(tmp_path)}) == expected


def test_no_file_means_no_credentials(tmp_path: Path) -> None:
    """A first run works."""
    assert find_authorization("http://127.0.0.1:8080", {"HOME": str(tmp_path)}) == ""


def test_a_saved_password_is_private_and_leaves_the_others(tmp_path: Path) -> None:
    """The file is this user's alone, and the entry of the same gateway is replaced."""
    env = {"OPENFAAS_CONFIG": str(tmp_path / "new")}
    save_basic("http://one", "Basic MQ==", env)
    save_basic("http://two", "Basic Mg==", env)
    path = save_basic("http://one", "Basic Mw==", env)

    entries = yaml.safe_load(path.read_text())["auths"]
    assert [(e["gateway"], e["auth"], e["token"]) for e in entries] == [
        ("http://two", "basic", "Mg=="),
        ("http://one", "basic", "Mw=="),
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["config.yml"]


def test_what_a_killed_login_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """It holds a password, and a process of the same number, as a container's are, must not stumble on it."""
    env = {"OPENFAAS_CONFIG": str(tmp_path)}
    for pid in (os.getpid(), 7):
        (tmp_path / f".config.yml.{pid}").write_text("auths:\n- token: MQ==\n")

    save_basic("http://one", "Basic MQ==", env)

    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


def test_logins_at_once_keep_each_other_s_passwords(tmp_path: Path) -> None:
    """Each is another process that reads the file and writes it anew."""
    code = "import sys; from tailrace.cli.credentials import save_basic; sys.stdin.read(1)\n"
    code += (
        "for n in range(5): save_basic(f'http://{sys.argv[1]}-{n}', 'Basic MQ==', {'OPENFAAS_CONFIG': '.'})"
    )
    logins = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=tmp_path, stdin=subprocess.PIPE)
        for number in range(4)
    ]
    for login in logins:
        assert login.stdin is not None
        login.stdin.close()
    ended = [login.wait(30) for login in logins]

    assert [0] * 4 == ended
    assert 20 == len(yaml.safe_load((tmp_path / "config.yml").read_text())["auths"])


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    """Garbage is not the same as no credentials."""
    (tmp_path / "config.yml").write_text("auths: {")

    with pytest.raises(TailraceError, match="line"):
        find_authorization("http://127.0.0.1:8080", {"OPENFAAS_CONFIG": str(tmp_path)})
