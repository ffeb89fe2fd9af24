"""An unmodified `faas-cli` does its work on a gateway of ours: from login to remove, with no Docker.

Where there is none, all of it is skipped; its requests are held by `test_requests.py` everywhere.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.compat.world import ECHO, PASSWORD, STREAM, USER, World
from tests.kit.faas_cli import FaasCli, needs_faas_cli
from tests.kit.remote import SECRET

pytestmark = pytest.mark.slow
LANG = "acme-flask"
# Somebody's own, as it would be pulled: its server runs as it stands.
INDEX = """
from flask import Flask, request
from waitress import serve

from function import handler

app = Flask(__name__)

@app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
@app.route("/<path:path>", methods=["GET", "POST"])
def main(path):
    return handler.handle(request.get_data(as_text=True))

serve(app, host="0.0.0.0", port=5000)
"""
TEMPLATE = {
    "template.yml": f"language: {LANG}\nfprocess: python index.py\n",
    "Dockerfile": "FROM python:3.12-slim-bookworm\nWORKDIR /home/app\nCOPY . .\n"
    'ENV fprocess="python index.py" mode=http upstream_url=http://127.0.0.1:5000\n',
    "index.py": INDEX,
    "requirements.txt": "flask\nwaitress\n",
    "function/__init__.py": "",
    "function/handler.py": "def handle(req):\n    return req\n",
    "function/requirements.txt": "",
}
IMAGE = "ghcr.io/lab/chat:latest"
SIGNATURE = "sha256=f161339b3fe47498cb4819e585297bae866d0c6ddfdc21d82af2e6cd4d0e6df2"


@pytest.fixture(scope="module")
def cli(world: World, tmp_path_factory: pytest.TempPathFactory) -> FaasCli:
    """Logged in, with a template in `./template`, and with `chat` and `stream` made, built and deployed."""
    folder = tmp_path_factory.mktemp("project")
    cli = FaasCli(needs_faas_cli(), folder, {"OPENFAAS_URL": world.town.url})
    for name, text in TEMPLATE.items():
        path = folder / "template" / LANG / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "payload.txt").write_text(SECRET)
    cli.must("login", "-u", USER, "--password-stdin", "-g", world.town.url, stdin=PASSWORD)
    cli.must("new", "chat", "--lang", LANG, "-g", world.town.url, "--prefix", "ghcr.io/lab")
    cli.must(
        "new", "tokens", "--lang", LANG, "-g", world.town.url, "--prefix", "ghcr.io/lab", "--append",
        "stack.yaml",
    )  # fmt: skip
    (folder / "chat/handler.py").write_text(ECHO)
    (folder / "tokens/handler.py").write_text(STREAM)
    cli.must("up", "-f", "stack.yaml", "--remote-builder", world.town.url, "--payload-secret", "payload.txt")
    cli.must("ready", "chat", "-g", world.town.url)
    cli.must("ready", "tokens", "-g", world.town.url)
    return cli


def test_a_wrong_password_is_told(world: World, cli: FaasCli) -> None:
    done = cli.run("login", "-u", USER, "--password-stdin", "-g", world.town.url, stdin="wrong")
    cli.must("login", "-u", USER, "--password-stdin", "-g", world.town.url, stdin=PASSWORD)

    assert done.code != 0
    assert "either username or password is incorrect" in done.text


def test_version_shows_both_sides(cli: FaasCli) -> None:
    done = cli.must("version", "--warn-update=false")

    assert "orchestration:" in done.text


def test_new_wrote_what_it_always_writes(cli: FaasCli) -> None:
    """A stack file that names the template, the handler and the image."""
    text = (cli.folder / "stack.yaml").read_text()

    assert f"lang: {LANG}" in text
    assert f"image: {IMAGE}" in text


def test_shrinkwrap_needs_no_gateway(cli: FaasCli) -> None:
    cli.must("build", "--shrinkwrap", "-f", "stack.yaml")

    assert ECHO == (cli.folder / "build/chat/function/handler.py").read_text()


def test_up_with_the_remote_builder_has_built_and_deployed(world: World, cli: FaasCli) -> None:
    """A second time too, as an update."""
    done = cli.must(
        "up", "-f", "stack.yaml", "--filter", "chat", "--remote-builder", world.town.url,
        "--payload-secret", "payload.txt",
    )  # fmt: skip

    assert "202" in done.text
    assert f"{world.town.url}/function/chat" in done.text


def test_list_and_describe_show_it(cli: FaasCli) -> None:
    listed = cli.must("list", "-v")
    found = json.loads(cli.must("list", "--json").stdout)
    described = cli.must("describe", "chat")

    assert IMAGE in listed.stdout
    assert {"chat", "tokens"} <= {function["name"] for function in found}
    assert "Ready" in described.stdout
    assert "/function/chat" in described.stdout


def test_invoke_prints_the_answer(cli: FaasCli) -> None:
    answer = json.loads(cli.must("invoke", "chat", stdin="hi").stdout)
    asked = json.loads(
        cli.must("invoke", "chat", "--method", "GET", "--query", "a=1", "-H", "X-One: 1").stdout
    )

    assert ("hi", "POST") == (answer["body"], answer["method"])
    assert ("a=1", "GET", "1") == (asked["query"], asked["method"], asked["headers"]["x-one"])


def test_invoke_prints_a_stream_as_it_comes(cli: FaasCli) -> None:
    """Without an Accept header, which the stock gateway asks for."""
    pieces = cli.pieces("invoke", "tokens", stdin="{}")

    assert "".join(f"data: tok{n}\n\n" for n in range(4)) == "".join(text for _, text in pieces)
    assert pieces[-1][0] - pieces[0][0] > 0.2


def test_invoke_signs_what_it_sends(cli: FaasCli) -> None:
    done = cli.must("invoke", "chat", "--sign", "X-Hub-Signature-256", "--key", "k3y", stdin="hi")

    assert SIGNATURE == json.loads(done.stdout)["headers"]["x-hub-signature-256"]


def test_invoke_async_hands_the_call_in(cli: FaasCli) -> None:
    """The function is called later, by the queue."""
    done = cli.run("invoke", "chat", "--async", stdin="hi")

    assert 0 == done.code, done.text
    assert "submitted asynchronously" in done.text


def test_logs_are_shown_and_followed(cli: FaasCli) -> None:
    cli.must("invoke", "chat", stdin="hi")

    shown = cli.must("logs", "chat", "--tail=false")
    followed = cli.pieces("logs", "chat", until="called POST")

    assert "called POST" in shown.stdout
    assert "called POST" in "".join(text for _, text in followed)


def test_secrets_are_made_changed_listed_and_removed(cli: FaasCli) -> None:
    cli.must("secret", "create", "cli-key", "--from-literal", "one")
    cli.must("secret", "create", "cli-key", "--from-literal", "two", "--replace")
    cli.must("secret", "update", "cli-key", "--from-literal", "three")
    listed = cli.must("secret", "list")
    cli.must("secret", "remove", "cli-key")
    after = cli.must("secret", "list")

    assert "cli-key" in listed.stdout
    assert "cli-key" not in after.stdout


def test_namespaces_are_made_listed_and_removed(cli: FaasCli) -> None:
    cli.must("namespace", "create", "cli-space", "--label", "a=b")
    listed = cli.must("namespace", "list")
    cli.must("namespace", "remove", "cli-space")
    after = cli.must("namespace", "list")

    assert "cli-space" in listed.stdout
    assert "cli-space" not in after.stdout


@contextmanager
def store_of(functions: list[dict[str, object]]) -> Iterator[str]:
    """A store on loopback, until the context is left."""
    text = json.dumps({"version": "0.2.0", "functions": functions}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/functions.json"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_store_s_functions_are_listed_and_deployed(cli: FaasCli) -> None:
    """Of a store whose images were built here."""
    one: dict[str, object] = {
        "title": "Chat", "name": "store-chat", "description": "says it again", "repo_url": "none",
        "images": dict.fromkeys(("x86_64", "arm64", "armhf"), IMAGE),
    }  # fmt: skip
    with store_of([one]) as url:
        listed = cli.must("store", "list", "--url", url)
        cli.must("store", "deploy", "store-chat", "--url", url, "--env", "FROM_FILE=store")
    cli.must("ready", "store-chat")
    answer = json.loads(cli.must("invoke", "store-chat", stdin="hi").stdout)

    assert "store-chat" in listed.stdout
    assert ("hi", "store") == (answer["body"], answer["env"]["FROM_FILE"])


def test_the_gateway_s_own_store_is_listed(world: World, cli: FaasCli) -> None:
    """Public, as a store has to be."""
    url = f"{world.town.url}/store/functions.json"

    listed = cli.must("store", "list", "--url", url)

    assert len(listed.stdout.splitlines()) > 1


def test_ready_waits_for_the_gateway(cli: FaasCli) -> None:
    done = cli.must("ready", "--attempts", "2")

    assert "ready" in done.text


def test_generate_writes_the_stack_file_as_resources(cli: FaasCli) -> None:
    done = cli.must("generate", "--api=openfaas.com/v1", "-f", "stack.yaml")

    assert "kind: Function" in done.stdout
    assert f"image: {IMAGE}" in done.stdout


def test_diff_finds_none_after_up(cli: FaasCli) -> None:
    """What was deployed comes back as it was sent; one that is changed is told."""
    same = cli.run("diff", "-f", "stack.yaml")
    text = (cli.folder / "stack.yaml").read_text()
    changed = text.replace(f"    image: {IMAGE}", f"    image: {IMAGE}\n    environment:\n      NEW: 'yes'")
    (cli.folder / "changed.yaml").write_text(changed)
    other = cli.run("diff", "-f", "changed.yaml")

    assert 0 == same.code, same.text
    assert 1 == other.code
    assert "env.NEW" in other.text


def test_what_was_deployed_by_its_image_is_removed(cli: FaasCli) -> None:
    """In a folder without a stack file, which would win."""
    elsewhere = cli.folder / "elsewhere"
    elsewhere.mkdir()
    cli.must("deploy", "--image", IMAGE, "--name", "gone", folder=elsewhere)
    there = cli.must("list", "-q", folder=elsewhere)
    cli.must("remove", "gone", folder=elsewhere)
    after = cli.must("list", "-q", folder=elsewhere)

    assert "gone" in there.stdout.split()
    assert "gone" not in after.stdout.split()


def test_logout_forgets_the_password(world: World, cli: FaasCli) -> None:
    cli.must("logout", "-g", world.town.url)
    refused = cli.run("list")
    cli.must("login", "-u", USER, "--password-stdin", "-g", world.town.url, stdin=PASSWORD)

    assert refused.code != 0
    assert "faas-cli login" in refused.text


def test_remove_ends_what_the_stack_file_names(cli: FaasCli) -> None:
    """The last of this page."""
    cli.must("remove", "-f", "stack.yaml")
    left = cli.must("list", "-q")

    assert not {"chat", "tokens"} & set(left.stdout.split())
