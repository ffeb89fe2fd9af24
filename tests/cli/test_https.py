"""`tailrace serve` over HTTPS as a person starts it: with a certificate of theirs, or with --domain."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.kit.certificate import Pair, make_pair
from tests.kit.cli import Running, Shell
from tests.kit.front import http2_curl, root_of
from tests.kit.ps import is_gone, ps
from tests.kit.replica import wait_until

pytestmark = pytest.mark.slow

SERVE = ("serve", "--port", "0", "--metrics-port", "0")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"TAILRACE_STATE_DIR": str(tmp_path / "state")})


def wait_for_url(running: Running) -> str:
    return running.wait_for(r"listening on (https://\S+)$")[1]


def served_certificate(url: str) -> str:
    host, _, port = url.removeprefix("https://").rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_a_domain_is_answered_for_over_http2_with_a_password(shell: Shell, tmp_path: Path) -> None:
    """Health for everybody, the control plane for the admin, and the log tells of the certificate."""
    with shell.start(*SERVE, "--domain", "localhost:0", "--auth") as running:
        password = running.wait_for(r"user admin, password (\S+)")[1]
        url = wait_for_url(running)
        root = str(root_of(tmp_path / "state"))
        curl = [str(http2_curl()), "--silent", "--cacert", root, "-o", "/dev/null"]
        written = ["-w", "%{http_version} %{response_code}\n"]
        asked: list[tuple[str, list[str]]] = [
            ("/healthz", []),
            ("/system/info", []),
            ("/system/info", ["-u", f"admin:{password}"]),
        ]

        said = [
            subprocess.run(
                [*curl, *written, *more, f"{url}{path}"], capture_output=True, text=True, timeout=20
            ).stdout
            for path, more in asked
        ]
        code, took_s = running.stop()

    assert ["2 200\n", "2 401\n", "2 200\n"] == said
    assert "certificate obtained for localhost" in running.text
    assert (0, True) == (code, took_s < 5)


def test_caddy_dies_with_a_gateway_that_is_killed(shell: Shell) -> None:
    """kill -9 leaves no Caddy, no keeper, and the port free."""
    with shell.start(*SERVE, "--domain", "localhost:0", "--auth") as running:
        url = wait_for_url(running)
        keeper = child_of(running.process.pid)
        caddy = child_of(keeper)

        running.process.kill()
        running.process.wait(10)

        wait_until(lambda: is_gone(keeper) and is_gone(caddy), 5)
        with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
            pass


def child_of(parent: int) -> int:
    """The process that parent started and that has a part in Caddy; there is one."""
    rows = ps("-A", "-o", "pid=,ppid=,args=").splitlines()
    fields = (row.split(None, 2) for row in rows)
    [found] = [int(pid) for pid, ppid, args in fields if int(ppid) == parent and "/caddy" in args]
    return found


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--domain", "api.example.com"], "without auth could let anybody deploy code"),
        (["--domain", "api.example.com", "--auth", "--host", "192.0.2.1"], "listens on loopback"),
        (["--tls-cert", "cert.pem"], "tls_cert is given without tls_key"),
        (["--tls-cert", "no.pem", "--tls-key", "no.pem"], "no.pem' cannot be read"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_starts(
    shell: Shell, flags: list[str], said: str
) -> None:
    """An exit code, one sentence, and nothing made in the state directory."""
    done = shell.run(*SERVE, *flags)

    assert done.returncode != 0
    assert said in done.stderr
    assert not (shell.folder / "state" / "admin.json").exists()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


def test_the_command_line_talks_to_a_gateway_over_https(shell: Shell, pair: Pair) -> None:
    """`--tls-cert` and `--tls-key`, and a client that trusts the certificate; one that does not says so."""
    with shell.start(*SERVE, "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)) as running:
        url = wait_for_url(running)

        done = shell.run("list", "-g", url, SSL_CERT_FILE=str(pair.cert))
        stranger = shell.run("list", "-g", url)

    assert 0 == done.returncode, done.stderr
    assert "answers with a certificate that is not trusted here" in stranger.stderr
    assert url.startswith("https://127.0.0.1:")


def test_sighup_picks_up_a_renewed_certificate(shell: Shell, pair: Pair, tmp_path: Path) -> None:
    """The next connection gets it; files that do not fit are told, and the old one stays."""
    with shell.start(*SERVE, "--tls-cert", str(pair.cert), "--tls-key", str(pair.key)) as running:
        url = wait_for_url(running)
        first = served_certificate(url)

        make_pair(tmp_path)
        os.kill(running.process.pid, signal.SIGHUP)
        running.wait_for("certificate and key read again")
        second = served_certificate(url)
        pair.key.write_text("damaged")
        os.kill(running.process.pid, signal.SIGHUP)
        running.wait_for("not reloaded.*holds no private key")
        third = served_certificate(url)
        answer = httpx.get(f"{url}/healthz", verify=pair.client_context())

    assert pair.cert.read_text() == second == third != first
    assert 200 == answer.status_code
