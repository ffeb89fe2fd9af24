"""Build contexts: what they mean without Docker, and that a server of somebody's own is never replaced."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from tailrace.build.assembly import assemble
from tailrace.build.bundle import Process
from tailrace.build.context import Context, handler_process, pack_context, read_context
from tailrace.build.dockerfile import parse_dockerfile
from tailrace.build.stock import STOCK, fingerprint, kind_of
from tailrace.build.templatefile import read_template_file
from tailrace.build.templates import Kind, find_template
from tailrace.errors import InvalidBundle, TooLarge

LIMIT = 1 << 20
# As a template of anybody's has it, and in most tests here the one that is known to be stock.
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
FROM ghcr.io/openfaas/of-watchdog:0.10.0 as watchdog
FROM python:3.12-alpine as build
COPY --from=watchdog /fwatchdog /usr/bin/fwatchdog
RUN chmod +x /usr/bin/fwatchdog
RUN addgroup -S app && adduser app -S -G app
ENV PATH=$PATH:/home/app/.local/bin
WORKDIR /home/app/
COPY index.py .
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
WORKDIR /home/app/function/
COPY function/ .
FROM build as ship
WORKDIR /home/app/
ENV fprocess="python index.py" cgi_headers="true" mode="http" upstream_url="http://127.0.0.1:5000"
CMD ["fwatchdog"]
"""
STOCK_FILES = {
    "template.yml": "language: python3-http\nfprocess: python index.py\n",
    "index.py": USUAL,
    "requirements.txt": "flask\nwaitress\ntox==3.*\n",
    "Dockerfile": DOCKERFILE,
    "function/__init__.py": "",
    "function/handler.py": "def handle(event, context): ...\n",
    "function/requirements.txt": "openai\n",
}


def make(folder: Path, files: Mapping[str, str]) -> Path:
    """The files below folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(
    folder: Path,
    files: Mapping[str, str],
    arguments: Mapping[str, str] | None = None,
    *,
    as_it_stands: bool = False,
) -> Context:
    known: dict[str, Kind] = {fingerprint(USUAL) or "": "http"}
    return read_context(
        make(folder, files), arguments=arguments or {}, known=known, as_it_stands=as_it_stands
    )


def packed_names(context: Context) -> set[str]:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(pack_context(context, limit_bytes=LIMIT).data)) as tar:
        return {member.name for member in tar if member.isfile()} - {"tailrace.json"}


def test_a_stock_template_of_a_name_of_ours_gets_the_runtime(tmp_path: Path) -> None:
    """Only the handler is packed, and the log says why it streams better."""
    context = read(tmp_path, STOCK_FILES)

    assert (context.lang, context.process) == ("python3-http", None)
    assert "instead of its index.py" in context.notes[0]
    assert packed_names(context) == {name for name in STOCK_FILES if name.startswith("function/")}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"index.py": USUAL.replace("5000", "5000, threads=32")}, "its index.py is not one that is known"),
        ({"index.py": USUAL + "app.config['X'] = 1\n"}, "its index.py is not one that is known"),
        ({"index.py": "this is no python"}, "its index.py is not one that is known"),
        ({"index.py": USUAL + "#" * 10_000}, "its index.py is not one that is known"),
        ({"template.yml": "language: python3-flask\n"}, "its index.py is not one that is known"),
        ({"template.yml": STOCK_FILES["template.yml"] + "tailrace: own\n"}, "template.yml says so"),
        ({"middleware.py": ""}, "it has a file of its own, middleware.py"),
        ({"requirements.txt": "flask\nflask-cors\n"}, "its requirements.txt asks for flask-cors"),
        ({"Dockerfile": DOCKERFILE + 'ENV exec_timeout="10s"\n'}, "its Dockerfile sets exec_timeout"),
    ],
)
def test_a_template_that_was_changed_runs_as_it_stands(
    tmp_path: Path, change: dict[str, str], why: str
) -> None:
    """Whatever was changed would be lost under the runtime, so it is not used; the log says what it saw."""
    context = read(tmp_path, {**STOCK_FILES, **change})

    assert context.process is not None
    assert context.process.fprocess == "python index.py"
    assert "runs as it stands" in context.notes[0]
    assert why in context.notes[0]


@pytest.mark.parametrize(
    "index",
    [
        USUAL.replace('"', "'"),
        "#!/usr/bin/env python\n# a comment\n" + USUAL.replace("\n", "\n\n"),
        '"""A docstring."""\n' + USUAL,
        'import site\n\nsite.addsitedir("/home/app/python")\n' + USUAL,
    ],
)
def test_how_a_stock_server_is_written_makes_no_difference(tmp_path: Path, index: str) -> None:
    """Comments, quotes, blank lines, and where an image keeps its packages."""
    assert read(tmp_path, {**STOCK_FILES, "index.py": index}).process is None


def test_the_fingerprints_are_those_of_the_adapters(tmp_path: Path) -> None:
    """Each names an adapter that a template of ours has; none is that of an empty program."""
    assert set(STOCK.values()) == {"flask", "http"}
    assert all(len(found) == 64 for found in STOCK)
    assert kind_of("") is None
    assert kind_of(USUAL) is None
    assert fingerprint("x" * 20_000) is None
    assert fingerprint("(" * 5000) is None
    assert fingerprint("-" * 8000 + "1") is None


def test_a_person_may_ask_for_the_template_as_it_stands(tmp_path: Path) -> None:
    """`--no-builtin`: the stock server runs under the watchdog."""
    context = read(tmp_path, STOCK_FILES, as_it_stands=True)

    assert context.process == Process(
        "python index.py",
        mode="http",
        upstream_url="http://127.0.0.1:5000",
        env={"cgi_headers": "true"},
        requirements=("requirements.txt", "function/requirements.txt"),
    )
    assert "as asked" in context.notes[0]
    assert packed_names(context) == {f"function/{name}" for name in STOCK_FILES}


def test_a_template_may_name_the_runtime_itself(tmp_path: Path) -> None:
    """`tailrace: python3-flask` in template.yml: its author says that the runtime serves its handlers."""
    text = "language: acme-python\nfprocess: python index.py\ntailrace: python3-flask\n"

    context = read(tmp_path, {**STOCK_FILES, "template.yml": text, "index.py": "print('mine')"})

    assert (context.lang, context.process) == ("python3-flask", None)


def test_a_template_cannot_name_a_runtime_that_is_not_there(tmp_path: Path) -> None:
    """The nearest one is named."""
    with pytest.raises(InvalidBundle, match="no template 'python3-flsk'") as caught:
        read(tmp_path, {**STOCK_FILES, "template.yml": "language: x\ntailrace: python3-flsk\n"})

    assert "python3-flask" in caught.value.text


@pytest.mark.parametrize("lang", ["python3-flask", "python3-stream", "python3-asgi"])
def test_a_context_made_from_a_template_of_ours_gets_its_runtime(tmp_path: Path, lang: str) -> None:
    """It has no server of its own, and nothing has to be said about it."""
    handler = make(tmp_path / "handler", {"handler.py": "app = handle = None\n"})
    assemble(find_template(lang).path, handler, tmp_path / "context")

    context = read_context(tmp_path / "context", arguments={}, as_it_stands=True)

    assert (lang, None, ()) == (context.lang, context.process, context.notes)


def test_node_runs_as_its_dockerfile_says(tmp_path: Path) -> None:
    """Its variables go along, but for those of the image's own folders and port."""
    files = {
        "template.yml": "language: node20\nfprocess: node index.js\n",
        "index.js": "",
        "package.json": '{"dependencies": {"express": "4"}}',
        "node_modules/express/index.js": "",
        "function/handler.js": "",
        "Dockerfile": "FROM node:20-alpine\nENV NPM_CONFIG_LOGLEVEL warn\nWORKDIR /home/app\nCOPY . .\n"
        'RUN npm i\nENV fprocess="node index.js" mode=http upstream_url=http://127.0.0.1:3000\n'
        "ENV exec_timeout=10s port=8080\n"
        "ENV NODE_PATH=/home/app/lib:/usr/lib\n",
    }

    context = read(tmp_path, files)

    assert context.process == Process(
        "node index.js",
        mode="http",
        upstream_url="http://127.0.0.1:3000",
        env={"NPM_CONFIG_LOGLEVEL": "warn", "exec_timeout": "10s", "NODE_PATH": "./lib:/usr/lib"},
    )
    assert "the Dockerfile's RUN is not run: npm i" in context.notes
    assert "function/node_modules/express/index.js" in packed_names(context)


@pytest.mark.parametrize(("port", "url"), [("port=8080", "8080"), ("port = 5000", "5000"), ("1", "5000")])
def test_a_server_that_nothing_else_tells_of_is_asked_where_it_listens(
    tmp_path: Path, port: str, url: str
) -> None:
    """A template without a Dockerfile: its index.py names the port, or it is 5000."""
    files = {
        "template.yml": "language: mine\nfprocess: python index.py\n",
        "index.py": USUAL.replace("port=5000", port),
        "function/handler.py": "",
    }

    process = read(tmp_path, files).process

    assert process is not None
    assert ("http", f"http://127.0.0.1:{url}") == (process.mode, process.upstream_url)


def test_a_program_that_is_no_server_is_run_for_each_call(tmp_path: Path) -> None:
    """The command may come from the stack file alone."""
    context = read_context(
        make(tmp_path, {"index.py": "print('hi')\n"}), arguments={}, fprocess="python index.py"
    )

    assert context.process == Process("python index.py", mode="streaming", requirements=("requirements.txt",))


@pytest.mark.parametrize(
    ("env", "mode"),
    [
        ({}, "streaming"),
        ({"mode": "serializing"}, "serializing"),
        ({"upstream_url": "http://127.0.0.1:1"}, "http"),
    ],
)
def test_a_handler_with_an_fprocess_says_its_mode(env: dict[str, str], mode: str) -> None:
    """A stack file's function without a lang."""
    assert mode == handler_process("cat", env).mode


@pytest.mark.parametrize(
    ("base", "more", "mode"),
    [
        ("openfaas/classic-watchdog:0.18 as watchdog", "", "serializing"),
        ("ghcr.io/openfaas/of-watchdog:0.10 as watchdog", "", "streaming"),
        ("ghcr.io/openfaas/of-watchdog:0.10 as watchdog", "ENV mode=serializing\n", "serializing"),
    ],
)
def test_a_dockerfile_with_an_fprocess_runs(tmp_path: Path, base: str, more: str, mode: str) -> None:
    """`lang: dockerfile` too: the program of the machine, in the mode of the watchdog it was written for."""
    text = f'FROM {base}\nFROM alpine:3\nWORKDIR /home/app\nENV fprocess="cat"\n{more}'

    context = read(tmp_path, {"Dockerfile": text})

    assert context.process == Process("cat", mode=mode)
    assert "dockerfile" == context.lang


def test_a_program_of_the_context_is_found_where_the_image_has_it(tmp_path: Path) -> None:
    """`COPY function/ .` brings it up; a path of the image's working folder becomes one of the bundle's."""
    files = {
        "Dockerfile": "FROM debian\nWORKDIR /app\nCOPY function/ .\nCOPY function/a*.txt /app/data/\n"
        "COPY function/run.sh /usr/bin/\nENV fprocess=/app/run.sh mode=streaming\n",
        "function/run.sh": "#!/bin/sh\n",
        "function/a1.txt": "1",
        "function/b1.txt": "1",
    }

    context = read(tmp_path, files)

    assert context.process == Process("./run.sh", mode="streaming")
    assert packed_names(context) == {
        f"function/{name}"
        for name in ("Dockerfile", "run.sh", "a1.txt", "b1.txt", "data/a1.txt", *list(files)[1:])
    }


def test_a_python_process_gets_an_environment_without_any_list(tmp_path: Path) -> None:
    """Its python is then the gateway's version, whatever the machine calls python."""
    files = {"Dockerfile": 'FROM x\nENV fprocess="python3 main.py"\n', "main.py": ""}

    context = read(tmp_path, files)

    assert context.process is not None
    assert context.process.requirements == ("requirements.txt",)


def test_lists_of_a_handler_folder_count(tmp_path: Path) -> None:
    """`handler_folder: src` has its requirements there."""
    files = {
        "template.yml": "language: uv\nfprocess: python main.py\nhandler_folder: src\n",
        "main.py": "",
        "src/requirements.txt": "httpx\n",
    }

    context = read(tmp_path, files)

    assert context.process is not None
    assert context.process.requirements == ("src/requirements.txt",)


@pytest.mark.parametrize(
    ("files", "words", "hint"),
    [
        ({"Dockerfile": "FROM nginx\n"}, "its Dockerfile sets none", "ENV fprocess="),
        ({"handler.txt": ""}, "it has no Dockerfile", "ENV fprocess="),
        (
            {"Dockerfile": "FROM golang as b\nFROM x\nCOPY --from=b /h .\nENV fprocess=./handler\n"},
            "'./handler', which fprocess names: a stage of its Dockerfile makes it",
            "Put it into the folder as handler",
        ),
        (
            {"Dockerfile": "FROM golang as b\nFROM x\nCOPY --from=b /h /handler\nENV fprocess=/handler\n"},
            "'/handler', which fprocess names: a stage of its Dockerfile makes it",
            "with fprocess ./handler",
        ),
        (
            {"Dockerfile": "FROM golang as b\nFROM x\nCOPY --from=b /h /app/\nENV fprocess=/app/h\n"},
            "'/app/h', which fprocess names: a stage of its Dockerfile makes it",
            "with fprocess ./h",
        ),
        (
            {"Dockerfile": 'FROM x\nENV fprocess="python app.py"\n'},
            "'app.py', which fprocess names: it is not there",
            "Put it into the folder as app.py",
        ),
        ({"Dockerfile": "FROM x\nENV fprocess=cat mode=http\n"}, "nothing says where", "ENV upstream_url="),
        ({"Dockerfile": "FROM x\nENV fprocess=cat mode=inproc\n"}, "mode 'inproc'", ""),
        (
            {"Dockerfile": "FROM x\nENV fprocess=node\n", "package.json": '{"dependencies":{"a":"1"}}'},
            "package.json of the template's folder asks for packages",
            "Run npm install",
        ),
        (
            {"Dockerfile": "FROM x\nENV fprocess=bun\n", "function/package.json": '{"dependencies":{"a":1}}'},
            "package.json of the handler's folder asks for packages",
            "Run npm install",
        ),
        ({"Dockerfile": "RUN x\n"}, "has no FROM", ""),
        ({"Dockerfile": "FROM x\nENV fprocess='cat\n"}, "'ENV fprocess=.cat' cannot be read", ""),
        ({"Dockerfile": "FROM x\nENV fprocess=cat 1X=2\n"}, "'1X'", ""),
        ({"Dockerfile": "FROM x\nENV fprocess=cat\nWORKDIR /\nCOPY . //a\x01b\n"}, "COPY's target", ""),
        ({"Dockerfile": "FROM x\nENV fprocess=cat\nCOPY ../../etc/passwd .\n"}, "COPY's source", ""),
        ({"Dockerfile": "FROM x\n" + "RUN a\n" * 2001}, "over 2000 instructions", ""),
        ({"Dockerfile": "#" * 300_000}, "Dockerfile is over 256 KiB", ""),
        ({"Dockerfile": "FROM x\nENV A=aaaaaaaaaa\n" + "ENV A=$A$A\n" * 20}, "over 16,384 characters", ""),
        ({"Dockerfile": "FROM x\nENV fprocess=a " + "".join(f"A{n}=1 " for n in range(300))}, "300 v", ""),
        ({"template.yml": "language: [a"}, "template.yml cannot be understood", ""),
        ({"template.yml": "[" * 3000}, "template.yml cannot be understood", ""),
        ({"template.yml": "- language: a"}, "template.yml cannot be understood", ""),
        ({"template.yml": "#" * 70_000}, "template.yml is over 64 KiB", ""),
        ({"template.yml": "fprocess: cat\nhandler_folder: ../..\n"}, "handler_folder is not a place", ""),
    ],
)  # fmt: skip
def test_what_cannot_run_without_docker_is_refused_with_what_is_missing(
    tmp_path: Path, files: dict[str, str], words: str, hint: str
) -> None:
    """The text says what was looked for, and the hint what to write or to run."""
    with pytest.raises(InvalidBundle, match=words) as caught:
        read(tmp_path, files)

    assert hint in (caught.value.hint or "")


def test_copies_are_bounded(tmp_path: Path) -> None:
    """A Dockerfile that copies everything again and again does not fill the disk."""
    copies = "".join(f"COPY big /app/x{n}\n" for n in range(1000))
    files = {"Dockerfile": f"FROM x\nWORKDIR /app\nENV fprocess=cat\n{copies}", "big": "x" * 10_000}

    with pytest.raises(TooLarge, match="what the Dockerfile copies"):
        pack_context(read(tmp_path, files), limit_bytes=LIMIT)

    assert not (tmp_path / "x0").exists()


def test_system_packages_are_told_and_not_installed(tmp_path: Path) -> None:
    """Those of RUN, and those of build options that come as a build argument."""
    run = "RUN apt-get update && apt-get -qy install gcc ${ADDITIONAL_PACKAGE}"
    text = f"FROM x\nARG ADDITIONAL_PACKAGE\n{run}\nENV fprocess=cat\n"

    context = read(
        tmp_path, {"Dockerfile": text}, {"ADDITIONAL_PACKAGE": "libpq-dev", "PYTHON_VERSION": "3.9"}
    )

    notes = "\n".join(context.notes)
    assert "system packages are not installed: gcc, libpq-dev" in notes
    assert "PYTHON_VERSION=3.9 is not used" in notes


def test_a_context_is_made_as_shrinkwrap_does(tmp_path: Path) -> None:
    """The template, the handler over its own, what is copied, and neither build nor template folders."""
    template = make(
        tmp_path / "template",
        {
            "template.yml": "language: x\n",
            "index.py": "",
            "function/handler.py": "old",
            "function/tox.ini": "",
        },
    )
    handler = make(
        tmp_path / "handler",
        {
            "handler.py": "new",
            "build/x": "",
            "template/y": "",
            "lib/build/z": "",
            ".git/config": "",
            ".env": "x",
        },
    )
    common = make(tmp_path / "common", {"a.py": "", ".env.local": "x", ".secrets/key": "x"})
    (tmp_path / "models.txt").write_text("m")

    assemble(
        template, handler, tmp_path / "out", copies={"common": common, "data/m.txt": tmp_path / "models.txt"}
    )

    out = tmp_path / "out"
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "template.yml",
        "index.py",
        "function/handler.py",
        "function/tox.ini",
        "function/lib/build/z",
        "function/common/a.py",
        "function/data/m.txt",
    }
    assert (out / "function" / "handler.py").read_text() == "new"


@pytest.mark.parametrize(("said", "place"), [("src", "src"), (".", "."), ("src/app/", "src/app")])
def test_the_handler_goes_where_the_template_says(tmp_path: Path, said: str, place: str) -> None:
    """`handler_folder`, below the context."""
    template = make(tmp_path / "template", {"template.yml": f"language: x\nhandler_folder: {said}\n"})
    handler = make(tmp_path / "handler", {"handler.py": "new"})

    assemble(template, handler, tmp_path / "out")

    assert (tmp_path / "out" / place / "handler.py").is_file()


@pytest.mark.parametrize("said", ["..", "/etc", "a/../../b", "../x"])
def test_a_template_cannot_put_the_handler_elsewhere(tmp_path: Path, said: str) -> None:
    """Outside the context is outside what is asked for."""
    template = make(tmp_path / "template", {"template.yml": f"language: x\nhandler_folder: {said}\n"})
    handler = make(tmp_path / "handler", {"handler.py": "new"})

    with pytest.raises(InvalidBundle, match="not a place inside"):
        assemble(template, handler, tmp_path / "out")


def test_a_dockerfile_folder_is_the_whole_context(tmp_path: Path) -> None:
    """`lang: dockerfile` has no template."""
    handler = make(tmp_path / "handler", {"Dockerfile": "FROM x\n", "app.py": ""})

    assemble(None, handler, tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {"Dockerfile", "app.py"}


def test_a_link_out_of_a_handler_is_refused(tmp_path: Path) -> None:
    """Only the folder is packed, so what it points at would be missing, or somebody else's."""
    handler = make(tmp_path / "handler", {"handler.py": ""})
    (handler / "secret").symlink_to("/etc/passwd")

    with pytest.raises(InvalidBundle, match="points out of") as caught:
        assemble(None, handler, tmp_path / "out")

    assert "configuration.copy" in str(caught.value.hint)


def test_a_program_of_a_system_is_this_machine_s(tmp_path: Path) -> None:
    """An image may bring its own node to where every system has it."""
    text = "FROM node as n\nFROM x\nCOPY --from=n /usr/bin/cat /usr/bin/cat\nENV fprocess=/usr/bin/cat\n"

    context = read(tmp_path, {"Dockerfile": text})

    assert context.process is not None
    assert "/usr/bin/cat" == context.process.fprocess


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ENV A='$B' C=\\$B D=\"\\$B\" E=$B", {"A": "$B", "C": "$B", "D": "$B", "E": "b"}),
        ("ENV A=\\'$B\\' C='it is $B'", {"A": "'b'", "C": "it is $B"}),
        ("ARG X='pa$B'\nENV A=$X", {"A": "pa$B"}),
        ('ENV A "one $B"', {"A": "one b"}),
        ("ENV A=on\\\ne", {"A": "one"}),
        ('RUN grep x <<< "word"\nENV A=1', {"A": "1"}),
        ("RUN echo $((1<<n)) 'a << b'\nENV A=1", {"A": "1"}),
        ("RUN <<EOF cat\nENV A=2\nEOF\nENV A=1", {"A": "1"}),
        ("RUN cat <<-'END' >f\nENV A=2\n\tEND\nENV A=1", {"A": "1"}),
    ],
)
def test_a_dockerfile_s_words_mean_what_they_mean_to_docker(line: str, expected: dict[str, str]) -> None:
    """Quotes, backslashes, continued lines, and what is a here-document and what only looks like one."""
    found = parse_dockerfile(f"FROM a\nENV B=b\n{line}\n", {}).env

    assert {"B": "b", **expected} == found


def test_a_template_file_is_bounded_as_it_is_written_out(tmp_path: Path) -> None:
    """Aliases made 720 MB of 65 KB."""
    (tmp_path / "template.yml").write_text(
        "build_options:\n- &a {name: b, packages: [" + "a," * 10_000 + "]}\n" + "- *a\n" * 9000
    )

    with pytest.raises(InvalidBundle, match="names over 10,000 packages"):
        read_template_file(tmp_path)


def test_variables_are_not_put_in_place_without_bound() -> None:
    """A Dockerfile of 216 KB could have asked for 1.6 GB."""
    text = f"FROM a\nENV A={'x' * 16000}\nENV B=x{'$A' * 100_000}\n"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidBundle, match="a value of over 16,384 characters"):
            parse_dockerfile(text, {})
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
