"""What a build context means: our runtime, its own process, or a refusal that says what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tailrace.build.bundle import Process
from tailrace.build.context import assemble, handler_process, is_usual, read_context, read_template
from tailrace.build.dockerfile import read_env
from tailrace.errors import InvalidBundle

USUAL = """
from flask import Flask, request
from function import handler
from waitress import serve
import os

app = Flask(__name__)

@app.route("/", defaults={"path": ""}, methods=["POST", "GET"])
@app.route("/<path:path>", methods=["POST", "GET"])
def main_route(path):
    return handler.handle(request.get_data(as_text=True))

if __name__ == "__main__":
    serve(app, host="0.0.0.0", port=5000)
"""
DOCKERFILE = """
ARG PYTHON_VERSION=3.12
FROM --platform=$TARGETPLATFORM ghcr.io/openfaas/of-watchdog:0.11 AS watchdog
FROM python:${PYTHON_VERSION}-alpine AS build
ENV A=1 B="two words" \\
    C=three
ENV OLD form of it
FROM build AS ship
# ENV not=read
ENV fprocess="python index.py" mode="http" upstream_url="http://127.0.0.1:5000" VERSION=${PYTHON_VERSION}
CMD ["fwatchdog"]
"""


def make(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def context(folder: Path, language: str, index: str = USUAL, **more: str) -> Path:
    files = {"template.yml": f"language: {language}\nfprocess: python index.py\n", "index.py": index}
    files |= {"Dockerfile": DOCKERFILE, "requirements.txt": "flask\n", "function/handler.py": "", **more}
    return make(folder, files)


@pytest.mark.parametrize("language", ["python3-flask", "python3-http", "python3-flask-debian"])
def test_a_usual_template_becomes_a_handler_of_ours(tmp_path: Path, language: str) -> None:
    meaning = read_context(context(tmp_path, language))

    assert (tmp_path / "function", language, None) == (meaning.folder, meaning.lang, meaning.process)


@pytest.mark.parametrize(
    "index",
    [
        USUAL + "\nimport sentry_sdk\n",
        USUAL + "\n@app.before_request\ndef check(): ...\n",
        USUAL.replace("from waitress import serve", "from gevent.pywsgi import WSGIServer"),
        USUAL.replace("from function import handler", ""),
        "def (",
    ],
)
def test_a_server_that_does_more_runs_as_it_stands(tmp_path: Path, index: str) -> None:
    """Nothing of an author's own is left out without a word."""
    meaning = read_context(context(tmp_path, "python3-flask", index))

    assert not is_usual(index)
    assert meaning.process is not None
    assert "python index.py" == meaning.process.fprocess


def test_a_template_can_ask_to_run_as_it_stands(tmp_path: Path) -> None:
    context(tmp_path, "python3-flask")
    (tmp_path / "template.yml").write_text(
        "language: python3-flask\nfprocess: python index.py\ntailrace: own\n"
    )

    assert read_context(tmp_path).process is not None


def test_another_template_is_its_own_process(tmp_path: Path) -> None:
    """With what its Dockerfile sets, and the requirements that are there."""
    meaning = read_context(context(tmp_path, "python3-own"))

    env = {"A": "1", "B": "two words", "C": "three", "OLD": "form of it", "VERSION": "3.12"}
    expected = Process("python index.py", "http", "http://127.0.0.1:5000", env, ("requirements.txt",))
    assert expected == meaning.process
    assert tmp_path == meaning.folder


def test_a_dockerfile_s_last_stage_counts() -> None:
    """And those it is built from; comments, other stages and what cannot be read do not."""
    env = read_env("FROM a AS x\nENV A=1\nFROM b\nENV B=2\nENV C='unclosed\nENV D\n")

    assert {"B": "2"} == env


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"Dockerfile": "FROM scratch\n", "function/handler.py": ""}, "names no fprocess"),
        ({"template.yml": "fprocess: ./handler\n", "main.go": ""}, "'./handler' is not in the build context"),
        (
            {
                "template.yml": "fprocess: node index.js\n",
                "package.json": '{"dependencies": {"express": "5"}}',
            },
            "node_modules is not in the build context",
        ),
        ({"template.yml": "- a\n"}, "template.yml is expected to be a map"),
        ({"template.yml": "language: [a]\n"}, "expected to be texts"),
        ({"template.yml": "language: {\n"}, "template.yml is no YAML"),
        ({"template.yml": "fprocess: cat\nhandler_folder: ../../etc\n"}, "leads out of the template"),
        ({"template.yml": "fprocess: cat\nhandler_folder: /etc\n"}, "leads out of the template"),
        ({"template.yml": "language: " + "a" * 300_000}, "larger than 256 KiB"),
    ],
)
def test_what_cannot_be_run_here_is_refused(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidBundle, match=words.replace(".", r"\.").replace("/", "/")):
        read_context(make(tmp_path, files))


def test_a_context_is_the_template_with_the_handler_in_it(tmp_path: Path) -> None:
    """At the folder that template.yml names; what a stack file copies beside it; no earlier build."""
    template = make(
        tmp_path / "t", {"template.yml": "handler_folder: app\nfprocess: cat\n", "app/handler.py": "old"}
    )
    handler = make(tmp_path / "h", {"handler.py": "new", "build/x": "", "lib/a.py": "a"})
    common = make(tmp_path / "common", {"b.py": "b"})

    assemble(template, handler, tmp_path / "out", [common])

    place = tmp_path / "out" / "app"
    assert "new" == (place / "handler.py").read_text()
    assert "b" == (place / "common" / "b.py").read_text()
    assert (place / "lib" / "a.py").is_file()
    assert not (place / "build").exists()
    assert "app" == read_template(tmp_path / "out").handler_folder


@pytest.mark.parametrize(
    ("env", "mode"),
    [
        ({}, "streaming"),
        ({"mode": "serializing"}, "serializing"),
        ({"upstream_url": "http://127.0.0.1:1"}, "http"),
    ],
)
def test_a_handler_with_an_fprocess_says_its_mode(env: dict[str, str], mode: str) -> None:
    assert mode == handler_process("cat", env).mode
