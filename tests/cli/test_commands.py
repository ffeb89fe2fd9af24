"""The commands against a gateway that runs: what a person and a script get, and the exit codes."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.cli import Running, Shell

pytestmark = pytest.mark.slow

API = """
import os
from flask import Response, request

def handle(req):
    print("asked", request.path, flush=True)
    if request.path == "/boom":
        raise ValueError("no such luck")
    if request.path == "/status":
        return "teapot", 418
    if request.path == "/cut":
        def stream():
            yield "data: one\\n\\n"
            os._exit(3)
        return Response(stream(), mimetype="text/event-stream")
    if request.path == "/secret":
        return open("/var/openfaas/secrets/key").read()
    query, one = request.query_string.decode(), request.headers.get("X-One")
    return f"{request.method} {request.path} {query} {one} {req}"
"""
TALK = """
async def handle(event, context):
    for word in event.body.decode().split():
        if word == "fail":
            raise RuntimeError("told to")
        yield word + " "
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two functions, one with a secret."""
    folder = tmp_path_factory.mktemp("project")
    shell = Shell(folder)
    assert shell.run("new", "api", "--lang", "python3-flask").returncode == 0
    assert shell.run("new", "talk", "--append", "stack.yaml").returncode == 0
    (folder / "api/handler.py").write_text(API)
    (folder / "talk/handler.py").write_text(TALK)
    stack = folder / "stack.yaml"
    text = stack.read_text().replace("image: api:latest", "image: api:latest\n    secrets: [key]")
    stack.write_text(text)
    return folder


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Running]:
    """A gateway that asks for a password."""
    args = ("serve", "--port", "0", "--auth", "--state-dir", str(folder / "state"))
    with Shell(folder).start(*args) as running:
        running.wait_for(r"listening on \S+$")
        yield running


@pytest.fixture(scope="module")
def shell(folder: Path, gateway: Running) -> Shell:
    """A person who has logged in and deployed."""
    url = gateway.wait_for(r"listening on (\S+)$")[1]
    password = gateway.wait_for(r"password (\S+) \(shown only now\)")[1]
    shell = Shell(folder, {"OPENFAAS_URL": url})

    refused = shell.run("list")
    assert (refused.returncode, refused.stderr) == (
        1,
        f"error: the gateway at {url} asks for a password\n"
        f"hint: Give it once: tailrace login --gateway {url}\n",
    )
    host = url.removeprefix("http://")
    said = shell.run("list", "-g", f"http://admin:wrong@{host}")
    assert (1, True) == (
        said.returncode,
        "does not take the user and password that it was given" in said.stderr,
    )
    wrong = shell.run("login", "--password-stdin", stdin=b"wrong")
    assert (wrong.returncode, "does not take" in wrong.stderr) == (1, True)
    assert shell.run("login", "--password-stdin", stdin=password.encode()).returncode == 0
    assert shell.run("secret", "create", "key", stdin=b"s3cret\n").stdout == "created key\n"
    deployed = shell.run("deploy")
    assert deployed.returncode == 0, deployed.stderr
    assert re.search(
        rf"^api: ready in [\d.]+ s \(import [\d.]+ s\)  {url}/function/api$", deployed.stderr, re.M
    )
    return shell


def test_serve_prints_every_setting_and_its_source(gateway: Running, shell: Shell) -> None:
    """A server's log begins with what it runs by; the password is there once and nowhere else."""
    del shell
    for name in ("host", "port", "auth", "state_dir", "body_limit", "queue_timeout_s", "log_lines"):
        gateway.wait_for(rf"^tailrace +{name} .*\((flag|environment|default)\)$")
    password = gateway.wait_for(r"password (\S+) \(shown only now\)")[1]
    assert gateway.text.count(password) == 1


def test_a_damaged_deployment_is_told_at_the_start(tmp_path: Path) -> None:
    """Its function is not there, so that its own log cannot be asked for; the file stays to be looked at."""
    saved = tmp_path / "state/functions/hello.openfaas-fn.json"
    saved.parent.mkdir(parents=True)
    saved.write_text("{")

    with Shell(tmp_path).start("serve", "--port", "0", "--state-dir", str(tmp_path / "state")) as running:
        running.wait_for(r"listening on \S+$")
        running.wait_for(
            r"^function 'hello': saved deployment '.*hello.openfaas-fn.json' cannot be read, so it is"
        )

    assert "{" == saved.read_text()


def test_list_and_describe(shell: Shell) -> None:
    """A table and a page for people, the contract's JSON for scripts."""
    table = shell.run("list").stdout.splitlines()
    assert table[0].split() == ["NAME", "STATE", "REPLICAS", "CALLS", "IMAGE"]
    assert table[1].split()[:3] == ["api", "ready", "1/1"]
    assert shell.run("list", "-q").stdout == "api\ntalk\n"
    assert [f["name"] for f in json.loads(shell.run("list", "--json").stdout)] == ["api", "talk"]

    page = shell.run("describe", "api").stdout
    assert "State:       ready" in page
    assert "Replicas:    1 of 1 ready" in page
    assert f"URL:         {shell.env['OPENFAAS_URL']}/function/api" in page
    data = json.loads(shell.run("describe", "api.openfaas-fn", "--json").stdout)
    assert (data["name"], data["availableReplicas"]) == ("api", 1)
    missing = shell.run("describe", "nope")
    assert (missing.returncode, missing.stderr) == (1, "error: function 'nope' is not deployed\n")


def test_invoke_sends_what_it_is_given(shell: Shell) -> None:
    """Body from -d, a file or stdin; method, path, query and headers."""
    assert shell.run("invoke", "api", "-d", "hi").stdout == "POST /  None hi"
    assert shell.run("invoke", "api", stdin=b"from stdin").stdout == "POST /  None from stdin"
    (shell.folder / "body.txt").write_text("from file")
    assert shell.run("invoke", "api", "-d", "@body.txt").stdout == "POST /  None from file"
    got = shell.run(
        "invoke", "api", "-X", "get", "--path", "/a/b", "--query", "x=1", "--query", "y=a b", "-H", "X-One: 1"
    )
    assert got.stdout == "GET /a/b x=1&y=a+b 1 "
    assert shell.run("invoke", "api", "-H", "nonsense").returncode == 2


def test_a_secret_reaches_its_function(shell: Shell) -> None:
    """As a file, without the newline that was typed; its name is listed, its value never."""
    assert shell.run("invoke", "api", "--path", "secret", "-d", "").stdout == "s3cret"
    assert shell.run("secret", "list").stdout == "NAME  USED BY\nkey   api\n"
    again = shell.run("secret", "create", "key", stdin=b"x")
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    assert again.stderr.endswith("hint: To give it this value, add --replace.\n")
    assert shell.run("secret", "create", "key", "--replace", stdin=b"new").returncode == 0
    assert shell.run("invoke", "api", "--path", "secret", "-d", "").stdout == "new"
    assert "used by api" in shell.run("secret", "remove", "key").stderr
    assert shell.run("secret", "create", "empty", stdin=b"\n").returncode == 1


def test_invoke_shows_tokens_as_text(shell: Shell) -> None:
    """A stream of words is a sentence; with --json each event is an object."""
    assert shell.run("invoke", "talk", "-d", "to be or").stdout == "to be or \n"
    lines = shell.run("invoke", "talk", "-d", "to be", "--json").stdout.splitlines()
    assert [json.loads(line)["data"] for line in lines] == ["to ", "be ", "{}"]


@pytest.mark.parametrize(
    ("args", "stdout", "stderr"),
    [
        (("talk", "-d", "to fail"), "to \n", "error: the stream failed: "),
        (("api", "-d", "", "--path", "boom"), None, "error: 'api' answered 500"),
        (("api", "-d", "", "--path", "status"), "teapot", "error: 'api' answered 418"),
        (("nope", "-d", ""), "", "error: function 'nope' not found"),
    ],
)
def test_invoke_fails_when_the_call_failed(
    shell: Shell, args: tuple[str, ...], stdout: str | None, stderr: str
) -> None:
    """Before the first byte and in the middle of the stream: exit code 1 and the reason on stderr."""
    done = shell.run("invoke", *args)

    assert done.returncode == 1
    assert done.stderr.startswith(stderr)
    assert stdout is None or done.stdout == stdout


@pytest.mark.parametrize(
    ("name", "path", "data"), [("api", "boom", ""), ("talk", "", "to fail"), ("api", "cut", "")]
)
def test_a_failed_call_is_found_in_the_logs(shell: Shell, name: str, path: str, data: str) -> None:
    """The hint is the command to type, with the letters that the log shows before that call's lines."""
    hint = shell.run("invoke", name, "-d", data, "--path", path).stderr.splitlines()[-1]

    told = re.fullmatch(rf"hint: See why: tailrace logs {name} \(call ([a-z2-7]{{8}})\)", hint)
    assert told is not None, hint
    assert re.search(rf"^\d\d:\d\d:\d\d  {told[1]}  \S", shell.run("logs", name).stdout, re.M)


def test_invoke_fails_when_the_answer_is_cut(shell: Shell) -> None:
    """A replica that dies mid-stream never looks like a clean end."""
    done = shell.run("invoke", "api", "-d", "", "--path", "cut")

    assert (done.returncode, done.stdout) == (1, "one\n")
    assert "was cut before its end" in done.stderr


def test_logs_show_prints_and_tracebacks(shell: Shell) -> None:
    """With times for people, with call ids for scripts, and only what was asked for."""
    shell.run("invoke", "api", "-d", "", "--path", "boom")
    text = shell.run("logs", "api", "--since", "10m").stdout
    assert re.search(r"^\d\d:\d\d:\d\d  [a-z2-7]{8}  asked /boom$", text, re.M)
    assert "ValueError: no such luck" in text

    (last,) = shell.run("logs", "api", "--tail", "1", "--json").stdout.splitlines()
    assert json.loads(last)["name"] == "api"
    assert shell.run("logs", "api", "--since", "1ms").stdout == ""
    nobody = shell.run("logs", "api", "--instance", "nope")
    assert (0, "", True) == (
        nobody.returncode,
        nobody.stdout,
        "no lines of a replica 'nope'" in nobody.stderr,
    )
    assert shell.run("logs", "api", "--since", "soon").returncode == 2
    assert "not deployed" in shell.run("logs", "nope").stderr


def test_logs_follow_until_ctrl_c(shell: Shell) -> None:
    """New lines come as they are written; Ctrl-C is exit code 130 without a traceback."""
    with shell.start("logs", "api", "-f", "--tail", "0") as following:
        deadline = time.monotonic() + 20
        while "asked /again" not in following.text and time.monotonic() < deadline:
            shell.run("invoke", "api", "-d", "", "--path", "again")
            following._read(0.1)

        code, _ = following.stop()

    assert "asked /again" in following.text
    assert (code, "Traceback" in following.text) == (130, False)


def test_a_failed_deploy_fails_and_the_old_code_serves(shell: Shell) -> None:
    """The exit code is 1, the traceback's end is quoted, and the function still answers."""
    handler = shell.folder / "talk/handler.py"
    handler.write_text("import nowhere\n")
    try:
        done = shell.run("deploy", "--filter", "talk", "--json")
    finally:
        handler.write_text(TALK)

    assert done.returncode == 1
    assert "add 'nowhere' to requirements.txt" in done.stderr
    assert "the earlier code still serves" in done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["name"], told["ready"]) == ("talk", False)
    assert "No module named 'nowhere'" in told["error"]
    assert shell.run("invoke", "talk", "-d", "still here").stdout == "still here \n"
    assert "Last error:" in shell.run("describe", "talk").stdout
    assert shell.run("deploy", "--regex", "^talk$").returncode == 0


def test_remove(shell: Shell) -> None:
    """By name; a second time is an error."""
    (shell.folder / "gone.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  gone:\n    lang: python3-http\n    handler: ./talk\n"
    )
    assert shell.run("deploy", "-f", "gone.yaml", "--no-wait").returncode == 0
    assert shell.run("remove", "gone").stdout == "removed gone\n"
    assert shell.run("remove", "gone").returncode == 1
    assert shell.run("remove").returncode == 2


def test_remove_goes_on_after_a_missing_function(shell: Shell) -> None:
    """What was removed is said, what was not there too, and the exit code is 1."""
    entry = "    lang: python3-http\n    handler: ./talk\n"
    text = f"provider: {{name: openfaas}}\nfunctions:\n  one:\n{entry}  two:\n{entry}  three:\n{entry}"
    (shell.folder / "many.yaml").write_text(text)
    assert shell.run("deploy", "-f", "many.yaml", "--no-wait").returncode == 0
    assert shell.run("remove", "two").returncode == 0

    done = shell.run("remove", "-f", "many.yaml")

    assert (done.returncode, done.stdout) == (1, "removed one\nremoved three\n")
    assert re.fullmatch(r"error: function 'two' .*\n", done.stderr)
    assert shell.run("list", "-q").stdout == "api\ntalk\n"


def test_an_error_of_packing_names_the_function(shell: Shell) -> None:
    """Also where a filter leaves one: the folder may be anybody's. No note is about the others."""
    (shell.folder / "empty").mkdir()
    (shell.folder / "odd.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n"
        "  odd:\n    lang: python3-http\n    handler: ./empty\n"
        "  fine:\n    lang: python3-http\n    handler: ./talk\n    fprocess: x\n"
    )
    done = shell.run("deploy", "-f", "odd.yaml", "--filter", "odd")

    assert done.returncode == 1
    assert done.stderr.startswith("error: function 'odd': handler folder has no ")
    both = shell.run("deploy", "-f", "odd.yaml", "--no-wait").stderr
    assert "note: odd.yaml: 'fprocess' (of fine)" in both
    assert re.search("^odd: failed: handler folder has no ", both, re.M)
    assert shell.run("remove", "fine").returncode == 0


@pytest.mark.parametrize(
    "args",
    [("version",), ("version", "--json"), ("--help",), ("up", "--help"), ("list",), ("describe", "api")],
)
def test_a_reader_that_leaves_ends_a_command_quietly(shell: Shell, args: tuple[str, ...]) -> None:
    """`tailrace ... | head -1`: no traceback."""
    done = shell.run_unread(*args)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("verb", ["up", "serve"])
def test_a_reader_that_leaves_ends_a_gateway_quietly(shell: Shell, tmp_path: Path, verb: str) -> None:
    """`tailrace up | head -1` too."""
    done = shell.run_unread(verb, "--port", "0", "--state-dir", str(tmp_path / "state"))

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("flag", "value", "shown"),
    [
        ("--body-limit", "4096", "body_limit +4096 bytes"),
        ("--bundle-limit", "8192", "bundle_limit +8192 bytes"),
        ("--queue-timeout-s", "2.5", r"queue_timeout_s +2\.5 seconds"),
        ("--start-timeout-s", "9", r"start_timeout_s +9\.0 seconds"),
        ("--trusted-proxies", "10.0.0.0/8", r"trusted_proxies +10\.0\.0\.0/8"),
        ("--log-lines", "200", "log_lines +200 lines"),
    ],
)
def test_serve_takes_a_flag_for_every_setting(tmp_path: Path, flag: str, value: str, shown: str) -> None:
    """The start-up log tells the value and that the flag gave it."""
    with Shell(tmp_path).start("serve", "--port", "0", flag, value) as running:
        running.wait_for(rf"{shown}  \(flag\)$")
        running.wait_for(r"listening on")


def test_version_asks_the_gateway(shell: Shell) -> None:
    """Both versions, on request."""
    told = json.loads(shell.run("version", "--server", "--json").stdout)

    assert told["tailrace"] == told["gateway"]


def test_version_and_doctor_tell_how_the_data_path_runs(shell: Shell) -> None:
    """A clone runs it as it is written."""
    told = json.loads(shell.run("version", "--json").stdout)
    shown = shell.run("version").stdout
    found = shell.run("doctor", TAILRACE_STATE_DIR=str(shell.folder / "own"), TAILRACE_PORT="0").stdout

    assert "pure Python" == told["dataPath"]
    assert "data path: pure Python)" in shown
    assert re.search(r"^ok    data path  pure Python$", found, re.M)


def test_doctor_finds_everything_in_order(shell: Shell) -> None:
    """Each check has a verdict, and what is not ok says what to do."""
    done = shell.run("doctor", "--json", TAILRACE_STATE_DIR=str(shell.folder / "own"), TAILRACE_PORT="0")

    found = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0
    assert [found[name]["verdict"] for name in ("python", "uv", "state", "port", "gateway")] == ["ok"] * 5
    assert all(row["advice"] for row in found.values() if row["verdict"] != "ok")
    owned = shell.run("doctor", TAILRACE_STATE_DIR=str(shell.folder / "state")).stdout
    assert re.search(r"^warn  state .* belongs to a gateway that is running: pid \d+", owned, re.M)


def test_nobody_there_is_said_with_the_next_step(tmp_path: Path) -> None:
    """No traceback, and the command that starts a gateway."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound and not listening: refused
        done = Shell(tmp_path).run("list", "-g", f"http://127.0.0.1:{sock.getsockname()[1]}")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no gateway answers at http://127.0.0.1:")
    assert "hint: Start one: tailrace up" in done.stderr


def test_a_password_in_the_url_is_used_and_not_shown(tmp_path: Path) -> None:
    """Messages name the gateway without it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://admin:pa55word@127.0.0.1:{sock.getsockname()[1]}"
        done = Shell(tmp_path).run("list", "-g", url)

    assert "pa55word" not in done.stderr + done.stdout
    assert base64.b64encode(b"admin:pa55word").decode() not in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("version",), 0, "tailrace "),
        (("--version",), 0, "tailrace "),
        (("--help",), 0, "Begin:"),
        (("up", "--help"), 0, "Examples:"),
        (("invoke", "--help"), 0, "--query"),
        (("invoke", "--help"), 0, "on a terminal"),
        (("describe", "--help"), 0, "describe [OPTIONS] NAME\n"),
        (("remove", "--help"), 0, "remove [OPTIONS] [NAME]...\n"),
        (("secret", "create", "--help"), 0, "create [OPTIONS] NAME\n"),
        (("llm", "mock", "--help"), 0, "--port PORT"),
        (("serve", "--log-lines", "1"), 2, "--log-lines=1 is not valid"),
        (("frobnicate",), 2, "No such command"),
        (("up",), 1, "tailrace new hello"),
        (("serve", "--host", "0.0.0.0"), 1, "--auth"),  # noqa: S104
        (("list", "-g", "ftp://x"), 2, "http://127.0.0.1:8080"),
    ],
)
def test_words_and_exit_codes(tmp_path: Path, args: tuple[str, ...], code: int, words: str) -> None:
    """0 done, 1 failed with a hint, 2 the command line is wrong; never colours in a pipe."""
    done = Shell(tmp_path).run(*args)

    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    """What makes `--help` and `version` quick: no HTTP client, no event loop, no gateway."""
    heavy = "httpx msgspec yaml asyncio uvloop starlette uvicorn watchfiles tailrace.gateway tailrace.client"
    code = f"import sys, tailrace.cli.main; print([m for m in '{heavy}'.split() if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})

    assert done.stdout == "[]\n", done.stderr


def test_namespaces_are_made_listed_and_removed(shell: Shell) -> None:
    """One that is there, or holds something, or is no name, is told with what to do."""
    made = shell.run("namespace", "create", "staging", "--label", "team=chat", "--annotation", "a=b")
    listed = shell.run("namespace", "list", "--json")
    again = shell.run("namespace", "create", "staging")
    shell.run("secret", "create", "key", "-n", "staging", stdin=b"x")
    held = shell.run("namespace", "remove", "staging")
    shell.run("secret", "remove", "key", "-n", "staging")
    removed = shell.run("namespace", "remove", "staging")
    odd = [shell.run("namespace", "create", name) for name in ("No", "..", "")]
    pair = shell.run("namespace", "create", "x", "--label", "novalue")

    assert "created staging\n" == made.stdout
    assert {"name": "staging"} in json.loads(listed.stdout)
    assert (1, True) == (again.returncode, "exists already" in again.stderr)
    assert (1, True) == (held.returncode, "still holds secrets key" in held.stderr)
    assert "removed staging\n" == removed.stdout
    assert [2, 2, 2] == [one.returncode for one in odd]
    assert "key=value" in pair.stderr


def test_a_namespace_is_looked_at_and_changed(shell: Shell) -> None:
    """An update replaces all that was written about it; one that is not there is told."""
    shell.run("namespace", "create", "looked", "--label", "team=chat", "--annotation", "a=b")
    before = shell.run("namespace", "get", "looked")
    updated = shell.run("namespace", "update", "looked", "--label", "team=search", "--label", "x=y", "--json")
    after = shell.run("namespace", "get", "looked", "--json")
    plain = shell.run("namespace", "update", "looked")
    missing = [shell.run("namespace", verb, "nowhere") for verb in ("get", "update")]
    shell.run("namespace", "remove", "looked")

    assert (
        "Name:        looked\nLabels:      openfaas=1, team=chat\nAnnotations: a=b, openfaas=1\n"
    ) == before.stdout
    labels = {"openfaas": "1", "team": "search", "x": "y"}
    assert {"name": "looked", "labels": labels, "annotations": {"openfaas": "1"}} == json.loads(after.stdout)
    assert after.stdout == updated.stdout
    assert "updated looked\n" == plain.stdout
    assert [(1, True)] * 2 == [
        (one.returncode, "namespace nowhere not found" in one.stderr) for one in missing
    ]


def test_secrets_are_listed_with_their_users_and_updated(shell: Shell) -> None:
    """By a person and by a script; an update of one that is not there makes none."""
    shell.run("secret", "create", "unused-key", "--no-trim", stdin=b" first ")
    listed = shell.run("secret", "list")
    as_json = shell.run("secret", "list", "--json")
    names = shell.run("secret", "list", "-q")
    updated = shell.run("secret", "update", "unused-key", "--json", stdin=b"second\n")
    from_file = shell.run("secret", "update", "unused-key", "--from-file", "stack.yaml")
    missing = shell.run("secret", "update", "nowhere", stdin=b"x")
    on_the_line = shell.run("secret", "update", "unused-key", "--from-literal", "x")
    empty = shell.run("secret", "update", "unused-key", stdin=b" \n")
    nobody_s = shell.run("secret", "list", "-n", "none")
    removed = shell.run("secret", "remove", "unused-key")

    assert "NAME        USED BY\nkey         api\nunused-key  -\n" == listed.stdout
    assert [
        {"name": "key", "namespace": "openfaas-fn", "functions": ["api"]},
        {"name": "unused-key", "namespace": "openfaas-fn", "functions": []},
    ] == json.loads(as_json.stdout)
    assert "key\nunused-key\n" == names.stdout
    assert {"name": "unused-key", "namespace": "openfaas-fn"} == json.loads(updated.stdout)
    assert "updated unused-key\n" == from_file.stdout
    assert (1, True) == (missing.returncode, "tailrace secret create nowhere" in missing.stderr)
    assert 2 == on_the_line.returncode  # it would show in the list of processes
    assert (1, "") == (empty.returncode, nobody_s.stdout)
    assert "removed unused-key\n" == removed.stdout


def test_a_secret_of_a_whole_mebibyte_is_stored(shell: Shell) -> None:
    """Whatever is in it; an editor's newline is no byte of it. One byte more is refused, nothing is cut."""
    full = bytes(range(256)) * 4096
    kept = shell.folder / "state/secrets/openfaas-fn/full"
    (shell.folder / "full.bin").write_bytes(b"a" + full[1:-1] + b"z\r\n")
    (shell.folder / "more.bin").write_bytes(b"a" * (1 << 20) + b" z")

    created = shell.run("secret", "create", "full", "--from-file", "full.bin")
    first = kept.read_bytes()
    updated = shell.run("secret", "update", "full", "--no-trim", stdin=full)
    more = [
        shell.run("secret", "update", "full", "--from-file", "more.bin"),
        shell.run("secret", "update", "full", "--no-trim", stdin=full + b"\n"),
        shell.run("secret", "update", "full", stdin=b"a" + b" " * (2 << 20)),
    ]
    last = kept.read_bytes()
    shell.run("secret", "remove", "full")

    assert (0, 0) == (created.returncode, updated.returncode), created.stderr + updated.stderr
    assert b"a" + full[1:-1] + b"z" == first
    assert full == last
    assert [(1, True)] * 3 == [(one.returncode, "larger than 1 MiB" in one.stderr) for one in more]


def test_a_secret_that_is_updated_reaches_its_function(shell: Shell) -> None:
    """Without a new deployment; from a file and from stdin."""
    (shell.folder / "key.txt").write_text("of a file\n")
    answers = []
    for args, stdin in ((("--from-file", "key.txt"), b""), ((), b"of stdin\n")):
        assert 0 == shell.run("secret", "update", "key", *args, stdin=stdin).returncode
        answers.append(shell.run("invoke", "api", "--path", "secret", "-d", "").stdout)
    shell.run("secret", "update", "key", stdin=b"s3cret")

    assert ["of a file", "of stdin"] == answers


def test_a_function_is_scaled(shell: Shell) -> None:
    """Up and back; a count that is none and a function that is not there are refused."""
    two = shell.run("scale", "api", "2")
    described = json.loads(shell.run("describe", "api", "--json").stdout)
    one = shell.run("scale", "api", "1")

    assert "api is to have 2 replicas\n" == two.stdout
    assert 2 == described["replicas"]
    assert "api is to have 1 replica\n" == one.stdout
    assert 2 == shell.run("scale", "api", "101").returncode
    assert "not deployed" in shell.run("scale", "none", "1").stderr


def test_a_password_is_forgotten(shell: Shell, tmp_path: Path) -> None:
    """Of this gateway alone; the second time there is none."""
    (tmp_path / "config.yml").write_text(
        "auths:\n  - {gateway: http://a.example, auth: basic, token: YTpi}\n"
        "  - {gateway: http://b.example, auth: basic, token: YTpi}\n"
    )
    forgot = shell.run("logout", "--gateway", "http://a.example", OPENFAAS_CONFIG=str(tmp_path))
    again = shell.run("logout", "--gateway", "http://a.example", OPENFAAS_CONFIG=str(tmp_path))

    assert "forgot the password for http://a.example\n" == forgot.stdout
    assert (1, "error: no password is kept for http://a.example\n") == (again.returncode, again.stderr)
    assert "a.example" not in (tmp_path / "config.yml").read_text()
    assert "b.example" in (tmp_path / "config.yml").read_text()
