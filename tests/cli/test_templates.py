"""`tailrace template`: templates of others, from git, from folders, from stores; hostile ones are refused."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.cli import Shell
from tests.kit.web import Quiet, serving

pytestmark = pytest.mark.slow

SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
HTTPServer(("0.0.0.0", 5000), BaseHTTPRequestHandler).serve_forever()
"""


def write_template(top: Path, name: str, **files: str) -> Path:
    """A template below ``top/template``."""
    folder = top / "template" / name
    (folder / "function").mkdir(parents=True)
    (folder / "template.yml").write_text(f"language: {name}\nfprocess: python index.py\n")
    (folder / "index.py").write_text(SERVER)
    (folder / "function/handler.py").write_text("def handle(req):\n    return req\n")
    for path, text in files.items():
        (folder / path).write_text(text)
    return folder


def git(folder: Path, *arguments: str) -> str:
    names = {
        f"GIT_{who}_{what}": "x@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **names},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository whose tag v1 has one template, and whose main branch has two."""
    top = tmp_path / "repository"
    write_template(top, "ruby-tiny", marker="one")
    git(top, "init", "--quiet", "--initial-branch", "main")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "one")
    git(top, "tag", "v1")
    write_template(top, "python3-tiny")
    (top / "template/ruby-tiny/marker").write_text("two")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "two")
    return top


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    work = tmp_path / "work"
    work.mkdir()
    return Shell(work)


def marker(shell: Shell) -> str:
    return (shell.folder / "template/ruby-tiny/marker").read_text()


def test_a_pull_brings_all_templates_of_a_repository(shell: Shell, repository: Path) -> None:
    done = shell.run("template", "pull", f"file://{repository}")

    assert 0 == done.returncode, done.stderr
    assert ["pulled ./template/python3-tiny", "pulled ./template/ruby-tiny"] == done.stdout.splitlines()
    listed = json.loads(shell.run("template", "list", "--json").stdout)
    assert {"./template/ruby-tiny", "tailrace"} <= {row["from"] for row in listed}
    meta = json.loads((shell.folder / "template/ruby-tiny/meta.json").read_text())
    assert meta["sha"] == git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("kind", ["tag", "commit"])
def test_a_pull_takes_the_state_that_is_asked_for(shell: Shell, repository: Path, kind: str) -> None:
    ref = "v1" if kind == "tag" else f"sha-{git(repository, 'rev-parse', 'v1')}"

    done = shell.run("template", "pull", f"{repository}#{ref}")

    assert 0 == done.returncode, done.stderr
    assert "one" == marker(shell)
    assert not (shell.folder / "template/python3-tiny").exists()


def test_a_template_that_is_there_is_replaced_only_when_that_is_said(shell: Shell, repository: Path) -> None:
    shell.run("template", "pull", f"{repository}#v1")

    kept = shell.run("template", "pull", str(repository))
    before = marker(shell)
    replaced = shell.run("template", "pull", str(repository), "--overwrite")

    assert "one" == before
    assert "--overwrite replaces it" in kept.stderr
    assert 0 == kept.returncode == replaced.returncode
    assert "two" == marker(shell)


def test_a_folder_without_git_will_do(shell: Shell, tmp_path: Path) -> None:
    write_template(tmp_path / "plain", "go-tiny")

    done = shell.run("template", "pull", "../plain")

    assert "pulled ./template/go-tiny\n" == done.stdout


def test_new_begins_with_what_the_pulled_template_has(shell: Shell, repository: Path) -> None:
    shell.run("template", "pull", str(repository))

    done = shell.run(
        "new", "hello", "--lang", "python3-tiny", "--prefix", "ghcr.io/lab", "-g", "http://fn.example:8080"
    )

    assert 0 == done.returncode, done.stderr
    assert "made hello/handler.py, made stack.yaml" in done.stdout
    assert "return req" in (shell.folder / "hello/handler.py").read_text()
    stack = (shell.folder / "stack.yaml").read_text()
    assert "image: ghcr.io/lab/hello:latest" in stack
    assert "gateway: http://fn.example:8080" in stack


def test_a_stack_file_names_its_templates(shell: Shell, repository: Path) -> None:
    (shell.folder / "hello").mkdir()
    (shell.folder / "hello/handler.py").write_text("def handle(req):\n    return req\n")
    (shell.folder / "stack.yaml").write_text(
        "provider: {name: openfaas}\n"
        f"configuration:\n  templates:\n    - name: python3-tiny\n      source: file://{repository}#main\n"
        "functions:\n  hello:\n    lang: python3-tiny\n    handler: ./hello\n"
    )

    before = shell.run("build", "--shrinkwrap")
    pulled = shell.run("template", "pull", "stack")
    after = shell.run("build", "--shrinkwrap")

    assert 1 == before.returncode
    assert "tailrace template pull stack" in before.stderr
    assert "pulled ./template/python3-tiny\n" == pulled.stdout
    assert 0 == after.returncode, after.stderr
    assert (shell.folder / "build/hello/index.py").is_file()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "template.yml"])
def test_a_template_with_a_link_is_refused_and_nothing_is_written(
    shell: Shell, tmp_path: Path, target: str
) -> None:
    (write_template(tmp_path / "bad", "evil") / "link").symlink_to(target)
    write_template(tmp_path / "bad", "good")

    done = shell.run("template", "pull", "../bad")

    assert 1 == done.returncode
    assert "link is a link" in done.stderr
    assert not (shell.folder / "template").exists()


def test_a_password_opens_the_repository_and_is_kept_and_shown_nowhere(
    shell: Shell, tmp_path: Path, repository: Path
) -> None:
    """Not in meta.json, which is committed, nor in our words, nor in the arguments of git, which ps shows."""
    git(repository, "update-server-info")
    commit = git(repository, "rev-parse", "HEAD")
    entry = base64.b64encode(b"u:ge/heim").decode()

    class Locked(Quiet, http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.directory = str(repository)
            if self.headers["Authorization"] == f"Basic {entry}":
                return super().do_GET()
            return self.send_error(401)

    told = tmp_path / "arguments"
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    watched = Shell(shell.folder, {"PATH": f"{program.parent}:{os.environ['PATH']}"})

    with serving(Locked) as url:
        repository_url = f"{url}/.git"
        address = repository_url.replace("://", "://u:ge%2Fheim@")
        done = watched.run("template", "pull", f"{address}#sha-{commit}")

    meta = json.loads((shell.folder / "template/ruby-tiny/meta.json").read_text())
    assert (0, repository_url, commit) == (done.returncode, meta["repository"], meta["sha"])
    assert "clone" in told.read_text()
    shown = done.stdout + done.stderr + told.read_text()
    assert not [secret for secret in ("heim", entry) if secret in shown]


@pytest.mark.parametrize("kind", ["the folder", "an entry"])
@pytest.mark.parametrize("with_git", [True, False])
def test_a_link_to_templates_is_refused(shell: Shell, tmp_path: Path, kind: str, with_git: bool) -> None:
    """It could lead out of the repository; one beside good templates is not left out without a word."""
    outside = write_template(tmp_path / "elsewhere", "evil")
    bad = tmp_path / "bad"
    bad.mkdir()
    if kind == "the folder":
        (bad / "template").symlink_to(outside.parent)
    else:
        write_template(bad, "good")
        (bad / "template/evil").symlink_to(outside)
    if with_git:
        git(bad, "init", "--quiet")
        git(bad, "add", ".")
        git(bad, "commit", "--quiet", "-m", "one")

    done = shell.run("template", "pull", "../bad")

    assert 1 == done.returncode
    assert "is a link; links are refused" in done.stderr
    assert not (shell.folder / "template").exists()


def test_nothing_is_written_through_a_link(shell: Shell, tmp_path: Path, repository: Path) -> None:
    """Neither by a pull nor by shrinkwrap; a link in the place of a template is one that is there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (shell.folder / "template").symlink_to(outside)
    pulled = shell.run("template", "pull", str(repository))
    (shell.folder / "template").unlink()
    (shell.folder / "template").mkdir()
    (shell.folder / "template/ruby-tiny").symlink_to(tmp_path / "nowhere")
    beside = shell.run("template", "pull", str(repository))
    over = shell.run("template", "pull", str(repository), "--overwrite")
    shell.run("new", "hello", "--lang", "ruby-tiny")
    (shell.folder / "build").symlink_to(outside)
    whole = shell.run("build", "--shrinkwrap")
    (shell.folder / "build").unlink()
    (shell.folder / "build").mkdir()
    (shell.folder / "build/hello").symlink_to(outside)
    one = shell.run("build", "--shrinkwrap")

    assert [1, 0, 0, 1, 1] == [done.returncode for done in (pulled, beside, over, whole, one)]
    assert "./template is a link" in pulled.stderr
    assert "ruby-tiny is there already" in beside.stderr
    assert "two" == marker(shell)
    assert ["./build is a link", "./build/hello is a link"] == [
        done.stderr.removeprefix("error: ").partition(";")[0] for done in (whole, one)
    ]
    assert [] == list(outside.iterdir())


def test_a_broken_template_is_named_in_a_line(shell: Shell, tmp_path: Path) -> None:
    """With the line of its template.yml, by `pull` and by `list`."""
    (write_template(tmp_path / "bad", "evil") / "template.yml").write_text("language: a\nx: [\n")

    pulled = shell.run("template", "pull", "../bad")
    write_template(shell.folder, "evil")
    (shell.folder / "template/evil/template.yml").write_text("language: a\nx: [\n")
    listed = shell.run("template", "list")

    for done in (pulled, listed):
        assert 1 == done.returncode
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("fetching")]
        assert line.startswith("error: template 'evil': template.yml cannot be understood: line 3: ")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("--upload-pack=touch pwned", "No such option"),
        ("ext::sh -c touch% pwned", "is no repository"),
        ("../nowhere", "git: "),
        ("https://127.0.0.1:1/x.git", "git: "),
        ("../repository#--upload-pack=x", "is no branch"),
        ("../repository#no-such-tag", "git: "),
        ("../work", "It is no repository of git either"),
        ("../work#v1", "is no repository of git, so it has no 'v1'"),
        ("../repository/template/ruby-tiny/marker", "is a file"),
        ("../repository#no-such-tag", "git ls-remote"),
    ],
)
def test_what_is_no_repository_is_refused(shell: Shell, repository: Path, source: str, words: str) -> None:
    done = shell.run("template", "pull", source)

    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert not list(shell.folder.glob("**/pwned"))
    assert not (shell.folder / "template").exists()


@pytest.fixture
def store(repository: Path) -> Iterator[str]:
    """A template store on loopback that lists one template."""
    entry = {
        "template": "ruby-tiny", "platform": "x86_64", "language": "Ruby", "source": "lab",
        "description": "A tiny one", "repo": str(repository), "official": "true", "recommended": True,
    }  # fmt: skip
    data = json.dumps(
        [entry, {**entry, "template": "other", "official": "false", "recommended": False}]
    ).encode()

    class Handler(Quiet):
        def do_GET(self) -> None:  # http.server's name
            self.send_response(200 if self.path == "/templates.json" else 404)
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as url:
        yield f"{url}/templates.json"


def test_a_store_lists_and_hands_out_templates(shell: Shell, store: str) -> None:
    listed = shell.run("template", "store", "list", OPENFAAS_TEMPLATE_STORE_URL=store)
    official = json.loads(
        shell.run("template", "store", "list", "--url", store, "--official", "--json").stdout
    )
    described = shell.run("template", "store", "describe", "ruby-tiny", "--url", store)
    pulled = shell.run("template", "store", "pull", "ruby-tiny", "--url", store)

    assert "ruby-tiny  Ruby      lab     A tiny one" in listed.stdout
    assert ["ruby-tiny"] == [row["template"] for row in official]
    assert "Repository:" in described.stdout
    assert "pulled ./template/ruby-tiny\n" == pulled.stdout


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/templates.json", "cannot be reached"),
        ("nowhere.json", "cannot be read"),
        ("STORE/no", "answered 404"),
        ("ftp://example.com/x", "cannot be read by ftp://"),
    ],
)
def test_a_store_that_is_none_is_told(shell: Shell, store: str, url: str, words: str) -> None:
    url = url.replace("STORE/no", store.replace("templates.json", "no"))

    done = shell.run("template", "store", "list", "--url", url)

    assert 1 == done.returncode
    assert words in done.stderr


def test_a_store_without_the_template_names_the_nearest(shell: Shell, store: str) -> None:
    done = shell.run("template", "store", "pull", "ruby-tini", "--url", store)

    assert 1 == done.returncode
    assert "Did you mean 'ruby-tiny'?" in done.stderr
