"""Verbs that scripts of faas-cli's users count on: ready, diff, generate, deploy by flags, invoke --sign."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
import yaml

from tailrace.wire.openfaas import FunctionStatus
from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town

pytestmark = pytest.mark.slow

STACK = """
version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:18080
functions:
  hello:
    lang: python3-flask
    handler: ./hello
    image: lab/hello:0.1
    environment:
      RAW_BODY: "true"
    secrets: [api-key]
    labels:
      com.openfaas.scale.max: "5"
    annotations:
      topic: cron-function
      schedule: "*/5 * * * *"
    limits: {memory: 128Mi, cpu: 500m}
    readonly_root_filesystem: true
  second:
    skip_build: true
    image: lab/second:0.1
"""
ECHO = """
import json
from flask import request

def handle(req):
    return json.dumps({"headers": dict(request.headers), "body": req})
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("verbs")) as town:
        town.deploy("echo", ECHO)
        yield town


@pytest.fixture(scope="module")
def shell(town: Town) -> Shell:
    return Shell(town.work, {"OPENFAAS_URL": town.url})


@pytest.fixture
def project(tmp_path: Path, town: Town) -> Shell:
    """A folder with a stack file, and the gateway it is for."""
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello/handler.py").write_text("def handle(req):\n    return req\n")
    (tmp_path / "stack.yaml").write_text(STACK.replace("http://127.0.0.1:18080", town.url))
    return Shell(tmp_path)


def test_ready_waits_for_the_gateway_and_for_a_function(shell: Shell) -> None:
    gateway = shell.run("ready")
    function = shell.run("ready", "echo", "--json")

    assert 0 == gateway.returncode == function.returncode
    assert "is ready" in gateway.stdout
    assert {"ready": True, "attempts": 1} == json.loads(function.stdout)


class _Starting(BaseHTTPRequestHandler):
    """A proxy: 502 until the gateway behind it answers the third request."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        status = FunctionStatus(
            name="f", image="f:1", created_at="2026-01-01T00:00:00Z", replicas=1, available_replicas=1
        )
        body = msgspec.json.encode(status) if self.asked > 2 else b"bad gateway"
        self.send_response(200 if self.asked > 2 else 502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_ready_waits_for_a_function_behind_a_proxy_whose_gateway_starts(shell: Shell) -> None:
    """502 is no reason to give up, for a function as little as for the gateway."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Starting) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()

        done = shell.run(
            "ready", "f", "--interval", "10ms", "-g", f"http://127.0.0.1:{proxy.server_port}", "--json"
        )

        proxy.shutdown()
        thread.join()

    assert 0 == done.returncode, done.stderr
    assert {"ready": True, "attempts": 3} == json.loads(done.stdout)


@pytest.mark.parametrize("what", [("nothere",), ("-g", "http://127.0.0.1:1")])
def test_ready_fails_when_its_attempts_are_over(shell: Shell, what: tuple[str, ...]) -> None:
    done = shell.run("ready", *what, "--attempts", "2", "--interval", "10ms")

    assert 1 == done.returncode
    assert "is not ready after 2 attempts" in done.stderr


def test_generate_prints_openfaas_functions(project: Shell) -> None:
    done = project.run("generate")

    first, second = yaml.safe_load_all(done.stdout)
    assert {
        "apiVersion": "openfaas.com/v1",
        "kind": "Function",
        "metadata": {"name": "hello", "namespace": "openfaas-fn"},
        "spec": {
            "name": "hello",
            "image": "lab/hello:0.1",
            "environment": {"RAW_BODY": "true"},
            "labels": {"com.openfaas.scale.max": "5"},
            "annotations": {"topic": "cron-function", "schedule": "*/5 * * * *"},
            "limits": {"memory": "128Mi", "cpu": "500m"},
            "secrets": ["api-key"],
            "readOnlyRootFilesystem": True,
        },
    } == first
    assert {"name": "second", "image": "lab/second:0.1"} == second["spec"]


def test_generate_prints_knative_services(project: Shell) -> None:
    done = project.run("generate", "--api", "serving.knative.dev/v1", "--filter", "hello", "-n", "staging")

    (service,) = yaml.safe_load_all(done.stdout)
    assert {"name": "hello", "namespace": "staging"}.items() <= service["metadata"].items()
    inner = service["spec"]["template"]["spec"]
    assert [{"name": "RAW_BODY", "value": "true"}] == inner["containers"][0]["env"]
    assert [{"name": "api-key", "secret": {"secretName": "api-key"}}] == inner["volumes"]
    assert "/var/openfaas/secrets/api-key" == inner["containers"][0]["volumeMounts"][0]["mountPath"]


def test_generate_knows_two_kinds(project: Shell) -> None:
    done = project.run("generate", "--api", "v2")

    assert 2 == done.returncode
    assert "expected openfaas.com/v1 or serving.knative.dev/v1" in done.stderr


def test_diff_tells_what_differs_and_fails(project: Shell, town: Town) -> None:
    secret = ("secret", "create", "api-key", "-g", town.url)
    assert 0 == project.run(*secret, stdin=b"k").returncode
    before = project.run("diff", "--filter", "hello")
    deployed = project.run("deploy", "--filter", "hello", "--env", "EXTRA=1")
    assert 0 == deployed.returncode, deployed.stderr

    after = project.run("diff", "--filter", "hello", "--json", "--show-values")
    hidden = project.run("diff", "--filter", "hello", "--json")
    same = project.run("deploy", "--filter", "hello"), project.run("diff", "--filter", "hello")

    assert 1 == before.returncode == after.returncode
    assert "hello: not deployed" in before.stdout
    assert [{"key": "env.EXTRA", "wished": "", "deployed": "1"}] == json.loads(after.stdout)[0]["differences"]
    assert [{"key": "env.EXTRA", "wished": "", "deployed": "set"}] == json.loads(hidden.stdout)[0][
        "differences"
    ]
    assert [0, 0] == [done.returncode for done in same]
    assert "hello: no difference\n" == same[1].stdout
    assert 0 == project.run("remove", "-f", "stack.yaml", "--filter", "hello").returncode


def test_diff_shows_no_key_that_a_variable_holds(project: Shell, town: Town) -> None:
    """Neither in the table nor as JSON, unless the values are asked for."""
    stack = project.folder / "stack.yaml"
    stack.write_text(stack.read_text().replace("    secrets: [api-key]\n", ""))
    options = ("--env", "RAW_BODY=geheim1", "--env", "KEY=geheim2")
    deployed = project.run("deploy", "--filter", "hello", *options)

    asked = [project.run("diff", "--filter", "hello", *how) for how in ((), ("--json",), ("--show-values",))]

    assert 0 == deployed.returncode, deployed.stderr
    assert [1, 1, 1] == [done.returncode for done in asked]
    assert ["geheim" in done.stdout for done in asked] == [False, False, True]
    assert "env.RAW_BODY  set         differs" in asked[0].stdout
    assert "geheim1" in asked[2].stdout
    assert 0 == project.run("remove", "-f", "stack.yaml", "--filter", "hello").returncode


@pytest.mark.parametrize("options", [("-g", "http://127.0.0.1:1"), ("-f", "nothere.yaml"), ("--filter", "x")])
def test_diff_tells_trouble_from_a_difference(project: Shell, options: tuple[str, ...]) -> None:
    """By 2, as diff(1) does."""
    done = project.run("diff", *options)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("error: ")


def test_deploy_takes_an_image_and_flags(shell: Shell) -> None:
    flags = (
        "--env", "A=1", "--env", "B=x=y", "--label", "l=v", "--annotation", "a=b", "-n", "staging",
        "--constraint", "node=1", "--memory-limit", "64Mi", "--readonly",
    )  # fmt: skip

    done = shell.run("deploy", "--image", "echo:latest", "--name", "adhoc", *flags)

    assert 0 == done.returncode, done.stderr
    found = json.loads(shell.run("describe", "adhoc", "-n", "staging", "--json").stdout)
    assert {"A": "1", "B": "x=y"} == found["envVars"]
    assert {"l": "v"} == found["labels"]
    assert {"a": "b"} == found["annotations"]
    assert ["node=1"] == found["constraints"]
    assert {"memory": "64Mi"} == found["limits"]
    assert found["readOnlyRootFilesystem"] is True


def test_deploy_with_replace_begins_anew(shell: Shell) -> None:
    shell.run("deploy", "--image", "echo:latest", "--name", "anew")
    assert 0 == shell.run("invoke", "anew", "-d", "x").returncode
    before = json.loads(shell.run("list", "--json").stdout)

    done = shell.run("deploy", "--image", "echo:latest", "--name", "anew", "--replace")

    assert 0 == done.returncode, done.stderr
    after = json.loads(shell.run("list", "--json").stdout)
    calls = [{f["name"]: f.get("invocationCount", 0) for f in found}["anew"] for found in (before, after)]
    assert [1, 0] == calls


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--image", "echo:latest"), "expected --image with --name"),
        (("--name", "x"), "expected --image with --name"),
        (("--image", "echo:latest", "-f", "stack.yaml"), "not both"),
        (("--image", "echo:latest", "--name", "x.nsb", "-n", "nsa"), "name two namespaces"),
        (("--image", "echo:latest", "--name", "x", "--env", "A"), "--env A is not of the form KEY=VALUE"),
        (("--image", "echo:latest", "--name", "x", "--secret", "../a"), "no legal name of a secret"),
        (("--image", "echo:latest", "--name", "x", "-n", "A B"), "no legal name"),
    ],
)
def test_deploy_refuses_what_it_cannot_mean(shell: Shell, flags: tuple[str, ...], words: str) -> None:
    done = shell.run("deploy", *flags)

    assert 2 == done.returncode
    assert words in done.stderr


def test_deploy_fails_without_the_image(shell: Shell) -> None:
    done = shell.run("deploy", "--image", "nowhere:1", "--name", "x")

    assert 1 == done.returncode
    assert "was not built for this gateway" in done.stderr


def test_invoke_signs_the_body(shell: Shell) -> None:
    (shell.folder / "key.txt").write_text("k3y\n")
    signed = ("--sign", "X-Hub-Signature-256", "--key")

    replies = [
        json.loads(shell.run("invoke", "echo", "-d", "hi", *signed, key).stdout)
        for key in ("k3y", "@key.txt")
    ]

    expected = f"sha256={hmac.new(b'k3y', b'hi', hashlib.sha256).hexdigest()}"
    assert [expected] * 2 == [reply["headers"]["X-Hub-Signature-256"] for reply in replies]
    assert "--key KEY belong together" in shell.run("invoke", "echo", "--sign", "X-A", "-d", "").stderr


def test_invoke_says_what_the_body_is(shell: Shell) -> None:
    reply = json.loads(shell.run("invoke", "echo", "-d", "{}", "--content-type", "application/json").stdout)

    assert "application/json" == reply["headers"]["Content-Type"]


def test_a_list_is_sorted_as_asked(shell: Shell) -> None:
    shell.run("deploy", "--image", "echo:latest", "--name", "aaa")

    by_name = shell.run("list", "-q").stdout.split()
    by_calls = shell.run("list", "-q", "--sort", "invocations").stdout.split()
    verbose = shell.run("list", "-v").stdout

    assert sorted(by_name) == by_name
    assert "aaa" == by_name[0] != by_calls[0]
    assert "DEPLOYED" in verbose


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: Shell, shell_name: str) -> None:
    done = shell.run("completion", "--shell", shell_name)

    assert 0 == done.returncode
    assert "_TAILRACE_COMPLETE" in done.stdout


def test_bash_completes_a_verb_with_that_script(shell: Shell, tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(shell.run("completion", "--shell", "bash").stdout)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "tailrace").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c \'import sys; sys.argv[0] = "tailrace"; '
        'from tailrace.cli.main import main; main()\' "$@"\n'
    )
    (bin_ / "tailrace").chmod(0o755)
    words = (
        f"PATH={bin_}:$PATH; source {script}; COMP_WORDS=(tailrace tem); COMP_CWORD=1; "
        "_tailrace_completion tailrace tem tailrace; echo ${COMPREPLY[@]}"
    )

    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60)

    assert "template" == done.stdout.strip(), done.stderr
