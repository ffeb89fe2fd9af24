"""What the command line refuses: the exit codes, the words, and what the words never hold."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.patience import wait_until
from tests.kit.runs import free_port

pytestmark = pytest.mark.slow

NOBODY = "http://127.0.0.1:1"
STACK = "version: 1.0\nprovider: {name: openfaas}\nfunctions:\n  f: {skip_build: true, image: 'f:1'}\n"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "stack.yaml").write_text(STACK)
    return Shell(tmp_path, {"OPENFAAS_URL": NOBODY})


@pytest.mark.parametrize(
    "line",
    [
        "new", "new A_B", "logs f --since gestern", "logs f --since 99999999h", "ready --interval 1x",
        "generate --api nonsense", "deploy --env LEVEL", "deploy --filter a --regex b", "deploy --regex (",
        "remove", "invoke f --sign X", "invoke f -H x", "invoke f --path ../../system/functions",
        "invoke f.a -n b", "invoke f.openfaas-fn -n staging", "invoke No_Name -d x", "serve --port 99999",
        "list -g ftp://x", "list -g http://[::", "build --build-arg x", "store deploy f --env x",
        "store list -p z80", "namespace get A_B", "template pull -- -x", "secret list --frobnicate",
    ],
)  # fmt: skip
def test_a_command_line_that_is_not_understood_ends_with_2(shell: Shell, line: str) -> None:
    """As an unknown option does, so that a script tells its own mistake from a failure."""
    done = shell.run(*line.split())

    assert (2, "") == (done.returncode, done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("store list -u http://[::", "no URL that can be used"),
        ("template store list -u http://[::/", "no URL that can be used"),
        ("list -g http://127.0.0.1:1/\x1bx", "no URL that can be used"),
        ("list -g http://xn--ä", "cannot be sent"),
        ("invoke f -d x -H Content-Length:3", "the header Content-Length cannot be given"),
        ("invoke f -d x -H transfer-encoding:chunked", "the header transfer-encoding cannot be given"),
        ("logs f --since 99999999h", "is no time"),
        ("logs f --since 0001-01-01T00:00:00", "error: "),
        ("store list -u ftp://x/y", "cannot be read by ftp://"),
        ("serve --port 0 --state-dir ~nosuchuser/x", "no home folder"),
    ],
)
def test_odd_values_are_told_in_a_line(shell: Shell, line: str, words: str) -> None:
    """No traceback, whatever library stumbles over them."""
    done = shell.run(*line.split())

    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("diff -f ~nosuchuser/stack.yaml", "no home folder"),
        ("template pull ~nosuchuser/x", "no home folder"),
        (f"diff -f {'a' * 300}", "cannot be used: File name too long"),
        ("build -f long.yaml", "cannot be used: File name too long"),
        ("build -f socket.yaml", "fn/left' cannot be packed: "),
        ("deploy -f socket.yaml", "fn/left' cannot be packed: "),
    ],
)
def test_a_path_that_cannot_be_used_is_told_in_a_line(tmp_path: Path, line: str, words: str) -> None:
    """Whatever the system has against it, and whether one function or several are packed at once."""
    stack = (
        "provider: {{name: openfaas}}\nfunctions:\n  fn: {{lang: python3-stream, handler: {}, image: fn}}\n"
    )
    (tmp_path / "long.yaml").write_text(stack.format("a" * 300))
    (tmp_path / "socket.yaml").write_text(stack.format("./fn"))
    (tmp_path / "fn").mkdir()
    (tmp_path / "fn" / "handler.py").write_text("def handle(event, context): yield 'x'\n")
    with socket.socket(socket.AF_UNIX) as left:
        here = os.open(tmp_path / "fn", os.O_RDONLY)
        left.bind(f"/proc/self/fd/{here}/left" if sys.platform == "linux" else str(tmp_path / "fn" / "left"))
        os.close(here)
        done = Shell(tmp_path, {"OPENFAAS_URL": NOBODY}).run(*line.split())

    assert (2 if line.startswith("diff") else 1) == done.returncode
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_current_folder_that_is_gone_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = "import os; os.rmdir(os.getcwd()); from tailrace.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "build"], cwd=tmp_path / "gone", capture_output=True, timeout=60
    )

    assert 1 == done.returncode
    assert b"error: the current folder is not there any more" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["--help", "new --help", "completion --shell bash", "version", "generate"])
def test_a_full_disk_is_told(shell: Shell, line: str) -> None:
    """And is a failure, however short the text is that did not fit."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from tailrace.cli.main import main; main()", *line.split()],
            cwd=shell.folder, stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            timeout=60,
        )  # fmt: skip

    assert (1, "error: what is said cannot be written: No space left on device\n") == (
        done.returncode,
        done.stderr,
    )


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("line", ["version", "list", "template list", "secret create a", "generate"])
def test_closed_streams_are_as_good_as_dev_null(shell: Shell, line: str, closed: tuple[int, ...]) -> None:
    """As of a service whose starter closed them."""
    close = "".join(f"os.close({number});" for number in closed)
    start = "os.execv(sys.executable, [sys.executable, '-c', MAIN, *sys.argv[1:]])"
    code = "import os, sys; MAIN = 'from tailrace.cli.main import main; main()';" + close + start
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()], cwd=shell.folder, capture_output=True, text=True,
        env={**os.environ, "OPENFAAS_URL": NOBODY}, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip

    assert "Traceback" not in done.stderr
    assert (1 if line in ("list", "secret create a") else 0) == done.returncode, done.stderr


def is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_gateway_starts_with_closed_streams(tmp_path: Path) -> None:
    """No socket of it gets the number of one: libuv aborts when it closes such a socket."""
    code = "import os, sys; [os.close(n) for n in (0, 1)]; os.execv(sys.executable, [sys.executable, '-c',"
    code += "'from tailrace.cli.main import main; main()', *sys.argv[1:]])"
    port = free_port()
    line = f"serve --port {port} --metrics-port 0 --nats-url off --state-dir {tmp_path / 'state'}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *line.split()], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(tmp_path)}, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    with process:
        wait_until(lambda: process.poll() is not None or is_healthy(port), "the gateway answers", 30)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()

    assert 0 == process.returncode, said


@pytest.mark.parametrize(
    "line",
    [
        "store list -u http://u:geheim@127.0.0.1:1/x", "store list -u http://u:geheim@[::/x",
        "store list -u http://u:ge/heim@127.0.0.1:1/x", "store list -u ftp://u:geheim@x",
        "template store list -u http://u:geheim@127.0.0.1:1/x", "template pull http://u:geheim@127.0.0.1:1/x",
        "template pull -- -http://u:geheim@127.0.0.1:1/x", "list -g http://u:geheim@127.0.0.1:1",
        "list -g http://u:geheim@[::", "list -g http://u:geheim@xn--ä",
    ],
)  # fmt: skip
def test_a_password_in_an_address_is_not_shown(shell: Shell, line: str) -> None:
    """Neither in what is done nor in what went wrong."""
    done = shell.run(*line.split())

    assert 0 != done.returncode
    assert "heim" not in done.stdout + done.stderr
    assert done.stderr


def test_ctrl_c_at_a_password_ends_with_130(shell: Shell) -> None:
    """As everywhere else; nothing is said about aborting."""
    ours, theirs = pty.openpty()
    code = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    code += "from tailrace.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "login"],
        cwd=shell.folder, env={**os.environ, "HOME": str(shell.folder)}, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        said = b""
        while b"Password" not in said:
            said += os.read(ours, 1024)
        os.write(ours, b"\x03")

        assert 130 == process.wait(30)
        assert b"Abort" not in said
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_ctrl_c_leaves_no_json_behind(shell: Shell) -> None:
    """What a script reads is an answer or nothing, not `null`."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with shell.start("list", "--json", "--gateway", url) as running:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                code, _ = running.stop()

    assert (130, "") == (code, running.text)


def test_a_password_that_is_no_text_is_told(shell: Shell) -> None:
    done = shell.run("login", "--password-stdin", stdin=b"\xff\xfe", PYTHONUTF8="1")

    assert 1 == done.returncode
    assert done.stderr.startswith("error: the password on stdin is not UTF-8")


def test_no_password_is_told_from_a_wrong_one(shell: Shell) -> None:
    """Before anybody is asked."""
    done = shell.run("login")

    assert 1 == done.returncode
    assert "no password was given" in done.stderr


def test_publish_shows_its_own_examples(shell: Shell) -> None:
    done = shell.run("publish", "--help")

    assert "tailrace publish -f stack.yaml" in done.stdout
    assert "--shrinkwrap" in done.stdout


def test_a_stack_file_that_is_no_file_is_not_said_to_be_missing(shell: Shell) -> None:
    done = shell.run("deploy", "-f", "/dev/null")

    assert 1 == done.returncode
    assert "/dev/null is a folder or a device" in done.stderr


def test_what_is_missing_of_other_functions_is_not_asked_for(shell: Shell) -> None:
    """A function can be compared, generated and built without the folders of those beside it."""
    stack = shell.folder / "stack.yaml"
    stack.write_text(f"{STACK}  g: {{lang: python3-flask, handler: ./gone}}\n")

    chosen = shell.run("generate", "--filter", "f")
    whole = shell.run("generate")

    assert (0, 1) == (chosen.returncode, whole.returncode)
    assert "the handler of 'g' is no folder" in whole.stderr
