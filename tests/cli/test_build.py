"""`tailrace build`, `publish` and `push`: images on a gateway, without Docker or a registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.kit.cli import Shell
from tests.kit.gateway import Town, running_town

pytestmark = pytest.mark.slow

HANDLER = "def handle(event, context):\n    return {'body': 'built ' + event.body.decode()}\n"
STACK = """
provider: {name: openfaas}
functions:
  hello:
    lang: python3-http
    handler: ./hello
    image: ghcr.io/lab/hello:0.1
  shouting:
    lang: shout
    handler: ./shouting
    image: lab/shouting
    build_options: [loud]
configuration:
  copy: [./common]
"""
FILES = {
    "stack.yaml": STACK,
    "hello/handler.py": HANDLER,
    "shouting/words.txt": "of the handler",
    "common/shared.txt": "common",
    "template/shout/template.yml": "language: shout\nfprocess: sh shout.sh\n"
    "build_options:\n  - name: loud\n    packages: [speakers]\n",
    "template/shout/shout.sh": "cat; cat function/words.txt function/common/shared.txt\n",
    "template/shout/function/words.txt": "of the template",
    "template/shout/Dockerfile": "FROM alpine\nARG ADDITIONAL_PACKAGE\nRUN apk add ${ADDITIONAL_PACKAGE}\n"
    'ENV fprocess="sh shout.sh" mode="streaming"\n',
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("town")) as town:
        yield town


def project(folder: Path, files: Mapping[str, str] = FILES) -> Shell:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Shell(folder)


def deploy(town: Town, name: str, image: str) -> None:
    """As any client of the API does it: the image is all that it knows."""
    with town.http() as http:
        reply = http.post("/system/functions", json={"service": name, "image": image})
        assert 202 == reply.status_code, reply.text
        params = {"wait": "55", "revision": reply.headers["x-tailrace-revision"]}
        assert 1 == http.get(f"/system/function/{name}", params=params).json()["availableReplicas"]


def test_what_was_built_is_deployed_by_its_image(town: Town, tmp_path: Path) -> None:
    """A handler for the runtime, and a template of somebody's own with what is copied into its handler."""
    done = project(tmp_path).run("build", "--gateway", town.url, "--json")

    built = {found["name"]: found for found in json.loads(done.stdout)}
    assert 0 == done.returncode
    assert {"hello": "ghcr.io/lab/hello:0.1", "shouting": "lab/shouting:latest"} == {
        name: found["image"] for name, found in built.items()
    }
    assert "shouting: system packages are not installed: speakers" in done.stderr
    deploy(town, "hello", "ghcr.io/lab/hello:0.1")
    deploy(town, "shouting", f"lab/shouting@sha256:{built['shouting']['digest']}")
    assert "built Ada" == httpx.post(f"{town.url}/function/hello", content="Ada", timeout=20).text
    answer = httpx.post(f"{town.url}/function/shouting", content="first ", timeout=20).text
    assert "first of the handlercommon" == answer


def test_passwords_beside_the_code_are_not_uploaded(town: Town, tmp_path: Path) -> None:
    """A handler's folder may be the project's own; what `copy` names is treated alike."""
    secret = {".env": "x", "hello/.env": "x", "hello/.secrets/key": "x", "common/.env.local": "x"}
    files = {**FILES, "stack.yaml": STACK.replace("./hello", "."), "handler.py": HANDLER, **secret}

    done = project(tmp_path, files).run("build", "--gateway", town.url)

    assert 0 == done.returncode, done.stderr
    assert "hello: not uploaded: .env, common/.env.local, hello/.env, hello/.secrets" in done.stderr
    assert "shouting: not uploaded: .env.local;" in done.stderr


def test_the_text_names_image_and_digest(town: Town, tmp_path: Path) -> None:
    """One line a function; `publish` is the same, and a filter chooses."""
    shell = project(tmp_path)

    done = shell.run("publish", "-f", "stack.yaml", "--filter", "hel*", "-g", town.url)

    assert 0 == done.returncode
    assert done.stdout.startswith("hello: ghcr.io/lab/hello:0.1 is sha256:")
    assert 1 == done.stdout.count("\n")


def test_push_tells_what_is_there(town: Town, tmp_path: Path) -> None:
    """And what to run for what is not; then the exit code is 1."""
    shell = project(tmp_path, {**FILES, "stack.yaml": STACK.replace("lab/shouting", "lab/unheard")})
    shell.run("build", "--filter", "hello", "-g", town.url)

    both = shell.run("push", "-g", town.url)
    one = shell.run("push", "--filter", "hello", "-g", town.url)

    assert (1, 0) == (both.returncode, one.returncode)
    assert "image 'lab/unheard:latest' was not built for this gateway" in both.stderr
    assert "tailrace build -f stack.yaml" in both.stderr
    assert "hello: ghcr.io/lab/hello:0.1 is there, sha256:" in one.stdout


def test_shrinkwrap_only_writes_the_contexts(tmp_path: Path) -> None:
    """No gateway is asked; what was there from an earlier time is gone."""
    shell = project(tmp_path, {**FILES, "build/shouting/old": ""})

    done = shell.run("build", "--shrinkwrap")

    out = tmp_path / "build"
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert (0, "") == (done.returncode, done.stderr)
    assert "hello shrink-wrapped to build/hello\nshouting shrink-wrapped to build/shouting\n" == done.stdout
    assert written == {
        "hello/template.yml",
        "hello/function/handler.py",
        "hello/function/requirements.txt",
        "hello/function/common/shared.txt",
        "shouting/template.yml",
        "shouting/Dockerfile",
        "shouting/shout.sh",
        "shouting/function/words.txt",
        "shouting/function/common/shared.txt",
    }
    assert "of the handler" == (out / "shouting/function/words.txt").read_text()


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_tags_come_from_the_state_of_the_code(town: Town, tmp_path: Path) -> None:
    """As faas-cli makes them; the digest's is that of the handler's files, whatever git says."""
    shell = project(tmp_path)
    git(tmp_path, "init", "-q", "-b", "feature/x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "v1")
    sha = git(tmp_path, "rev-parse", "--short", "HEAD")

    def image(*more: str) -> str:
        done = shell.run("build", "--filter", "hello", "-g", town.url, "--json", *more)
        assert 0 == done.returncode, done.stderr
        return str(json.loads(done.stdout)[0]["image"]).removeprefix("ghcr.io/lab/hello:")

    assert f"0.1-{sha}" == image("--tag", "sha")
    assert f"0.1-feature-x-{sha}" == image("--tag", "branch")
    assert "0.1-v1" == image("--tag", "describe")
    first = image("--tag", "digest")
    (tmp_path / "hello/handler.py").write_text(HANDLER + "# more\n")
    assert 32 == len(first) == len(image("--tag", "digest"))
    assert first != image("--tag", "digest")
    done = shell.run("deploy", "--filter", "hello", "-g", town.url, "--tag", "sha")
    assert "hello: ready" in done.stderr
    with town.http() as http:
        assert f"ghcr.io/lab/hello:0.1-{sha}" == http.get("/system/function/hello").json()["image"]


def test_a_tag_of_git_needs_a_commit(town: Town, tmp_path: Path) -> None:
    """The message is git's, the hint says what to do."""
    done = project(tmp_path).run("build", "--tag", "sha", "-g", town.url)

    assert 1 == done.returncode
    assert "the tag cannot be made from git" in done.stderr


@pytest.mark.parametrize(
    ("stack", "more", "words"),
    [
        (
            STACK.replace("lang: shout", "lang: dockerfile"),
            (),
            "function 'shouting': nothing says which command answers calls",
        ),
        (STACK.replace("lang: shout", "lang: ruby"), (), "there is no template 'ruby'"),
        (STACK, ("--build-option", "quiet"), "template 'shout' has no build option 'quiet'; it has: loud"),
        (STACK.replace("./common", "../common"), (), "is not inside the folder of stack.yaml"),
    ],
)
def test_what_cannot_be_built_says_what_is_missing(
    town: Town, tmp_path: Path, stack: str, more: tuple[str, ...], words: str
) -> None:
    """Nothing is uploaded for it, and the exit code is 1."""
    shell = project(tmp_path, {**FILES, "stack.yaml": stack})

    done = shell.run("build", "--filter", "shouting", "-g", town.url, *more)

    assert 1 == done.returncode
    assert words in done.stderr


def test_one_that_fails_keeps_no_other_from_being_built(town: Town, tmp_path: Path) -> None:
    """It is told, in JSON too."""
    shell = project(tmp_path, {**FILES, "stack.yaml": STACK.replace("lang: shout", "lang: dockerfile")})

    done = shell.run("build", "-g", town.url, "--json")

    assert 1 == done.returncode
    assert [True, False] == [bool(found.get("digest")) for found in json.loads(done.stdout)]
    assert "nothing says which command answers calls" in done.stderr


def test_a_stock_template_may_run_as_it_stands(town: Town, tmp_path: Path) -> None:
    """`--no-builtin` keeps the runtime out of a pulled template of a name of ours."""
    files = {
        "stack.yaml": "provider: {name: openfaas}\nfunctions:\n"
        "  mine: {lang: python3-http, handler: ./mine}\n",
        "mine/handler.py": HANDLER,
        "template/python3-http/template.yml": "language: python3-http\nfprocess: sh own.sh\n",
        "template/python3-http/own.sh": "echo its own server\n",
        "template/python3-http/Dockerfile": "FROM x\nENV mode=streaming\n",
    }

    done = project(tmp_path, files).run("build", "--no-builtin", "-g", town.url)

    assert 0 == done.returncode, done.stderr
    assert "runs as it stands, under the watchdog" in done.stderr
    deploy(town, "mine", "mine")
    assert "its own server\n" == httpx.get(f"{town.url}/function/mine", timeout=20).text
