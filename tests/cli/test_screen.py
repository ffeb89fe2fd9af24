"""A gateway, or a store, that is not to be trusted: what it answers is shown, and no terminal obeys it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.kit.cli import Shell
from tests.kit.web import Quiet, serving

pytestmark = pytest.mark.slow

PLAYS = "a\x1b[2J\x1b[31mb\x07c\x9b31md\u202ee\u2066f\rg"
SHOWN = "a\\x1b[2J\\x1b[31mb\\x07c\\x9b31md\\u202ee\\u2066f\\x0dg"
FUNCTION = {
    "name": PLAYS, "image": PLAYS, "createdAt": PLAYS, "namespace": PLAYS, "envProcess": PLAYS,
    "envVars": {PLAYS: PLAYS}, "secrets": [PLAYS], "labels": {PLAYS: PLAYS + "\nState: ready"},
    "annotations": {PLAYS: PLAYS}, "replicas": 1, "availableReplicas": 0,
    "tailrace": {"state": PLAYS, "revision": "r", "lastError": PLAYS},
}  # fmt: skip
STORE = [{"name": PLAYS, "title": PLAYS, "description": PLAYS, "author": PLAYS, "images": {"x86_64": PLAYS}}]
TEMPLATE = {"template": PLAYS, "language": PLAYS, "source": PLAYS, "description": PLAYS, "repo": PLAYS}
ANSWERS: dict[str, object] = {
    "/system/functions": [FUNCTION],
    "/system/function/f": FUNCTION,
    "/system/secrets": [{"name": PLAYS, "namespace": PLAYS}],
    "/system/namespaces": [PLAYS],
    "/system/namespace/f": {"name": PLAYS, "labels": {PLAYS: PLAYS}},
    "/system/bundles": {"image": PLAYS, "digest": PLAYS},
    "/store/functions.json": {"version": "0.2.0", "functions": STORE},
    "/templates.json": [TEMPLATE],
    "/empty/system/functions": [],
    "/empty/runs": {"runs": []},
    "/empty/system/queue": {"waiting": [], "dead": [], "dead_total": 0},
}
STACK = """
version: 1.0
provider: {name: openfaas}
functions:
  f: {skip_build: true, image: "f:1"}
"""


@contextmanager
def answering(answers: Mapping[str, object]) -> Iterator[str]:
    """A server with one JSON answer a path; its URL."""

    class Handler(Quiet):
        def do_GET(self) -> None:  # http.server's name
            path = self.path.partition("?")[0]
            data = json.dumps(answers.get(path)).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as url:
        yield url


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("screen")
    (folder / "stack.yaml").write_text(STACK)
    with answering(ANSWERS) as url:
        yield Shell(folder, {"OPENFAAS_URL": url, "OPENFAAS_TEMPLATE_STORE_URL": f"{url}/templates.json"})


@pytest.mark.parametrize(
    "command",
    [
        "list", "list -q", "list -v", "describe f", "diff", "secret list", "secret list -q", "namespace list",
        "namespace get f", "push", "store list -p x86_64", "template store list",
    ],
)  # fmt: skip
def test_what_a_gateway_says_takes_over_no_screen(shell: Shell, command: str) -> None:
    """Control characters, and those that turn text round, are shown by their numbers, in a pipe too."""
    done = shell.run(*command.split())

    assert SHOWN in done.stdout
    assert not set("\x1b\x07\x9b\u202e\u2066\r") & set(done.stdout + done.stderr)


def test_a_value_cannot_pretend_to_be_another_field(shell: Shell) -> None:
    """Its second line stands below the first, not at the beginning of a line."""
    done = shell.run("describe", "f")

    assert "\n             State: ready" in done.stdout
    assert "\nState: ready" not in done.stdout


def test_json_holds_what_was_said(shell: Shell) -> None:
    """Escaped as JSON does it, so that a script gets the very text."""
    done = shell.run("list", "--json")

    assert PLAYS == json.loads(done.stdout)[0]["image"]
    assert done.stdout.isascii()


@pytest.mark.parametrize("command", ["list", "runs list", "queue list"])
def test_that_there_is_nothing_is_said_beside_the_data(shell: Shell, command: str) -> None:
    """On stderr: a script that reads lines gets none."""
    done = shell.run(*command.split(), "-g", f"{shell.env['OPENFAAS_URL']}/empty")

    assert (0, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("note: no")
