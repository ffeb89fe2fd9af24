"""cli.stackfile: stack.yaml as OpenFaaS has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.cli.stackfile import Stack, find_stack_file, load_stack, parse_stack
from tailrace.errors import InvalidDeployment, InvalidUsage, NotFound
from tailrace.model import Resources
from tailrace.names import FunctionName

HEAD = "provider: {name: openfaas}\nfunctions:\n"
FN = HEAD + "  hello:\n    lang: python3-flask\n    handler: ./hello\n"
# Every key of the contract's section 5.
FULL = """\
version: 1.0
provider:
  name: openfaas
  gateway: http://127.0.0.1:18080
functions:
  hello:
    lang: python3-flask-debian
    handler: ./hello
    image: ghcr.io/lab/hello:0.1
    namespace: dev
    fprocess: python index.py
    skip_build: false
    environment:
      write_timeout: 5m
      RAW_BODY: true
      BIG: 1e3
      PYTHON: True
      EMPTY:
      QUOTED: "~"
      buffer_body: true
    environment_file:
      - env.yaml
    secrets:
      - api-key
    labels:
      com.openfaas.scale.min: 1
    annotations:
      schedule: "*/5 * * * *"
    constraints:
      - "kubernetes.io/arch=amd64"
    requests: {cpu: 50m, memory: 64Mi}
    limits: {cpu: 500m, memory: 128Mi}
    readonly_root_filesystem: true
    build_args:
      PYTHON_VERSION: 3.12
    build_options: [dev]
    build_secrets: {token: ./token}
    platforms: linux/amd64
configuration:
  templates:
    - name: python3-flask-debian
      source: https://example.com/t.git
  copy:
    - ./common
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project folder with one handler."""
    (tmp_path / "hello").mkdir()
    (tmp_path / "common").mkdir()
    return tmp_path


def read(folder: Path, text: str, env: dict[str, str] | None = None) -> Stack:
    return parse_stack(text, folder / "stack.yaml", env or {})


def refusal(folder: Path, text: str) -> InvalidDeployment:
    with pytest.raises(InvalidDeployment) as refused:
        read(folder, text).select()
    return refused.value


def test_every_key_of_the_contract_is_read(folder: Path) -> None:
    """What the file says arrives, scalars as they were written, environment files over inline values."""
    (folder / "env.yaml").write_text("environment: {FROM_FILE: yes, write_timeout: 6m}\n")

    stack = read(folder, FULL)

    assert stack.gateway == "http://127.0.0.1:18080"
    assert stack.read_from == (folder / "stack.yaml", folder / "env.yaml")
    (hello,) = stack.functions
    assert hello.name == FunctionName("hello", "dev")
    assert hello.handler == folder / "hello"
    assert hello.image == "ghcr.io/lab/hello:0.1"
    assert hello.fprocess == "python index.py"
    assert hello.env == {
        "write_timeout": "6m",
        "RAW_BODY": "true",
        "BIG": "1e3",
        "PYTHON": "True",
        "EMPTY": "",
        "QUOTED": "~",
        "buffer_body": "true",
        "FROM_FILE": "yes",
    }
    assert hello.secrets == ("api-key",)
    assert hello.labels == {"com.openfaas.scale.min": "1"}
    assert hello.annotations == {"schedule": "*/5 * * * *"}
    assert hello.constraints == ("kubernetes.io/arch=amd64",)
    assert hello.requests == Resources(memory="64Mi", cpu="50m")
    assert hello.limits == Resources(memory="128Mi", cpu="500m")
    assert hello.read_only_root_filesystem is True
    assert hello.build_args == {"PYTHON_VERSION": "3.12"}
    assert hello.build_options == ("dev",)
    assert hello.copies == {"common": folder / "common"}
    assert hello.template is None


def test_what_has_no_meaning_yet_is_said_once_a_key(folder: Path) -> None:
    """Nothing is silently dropped: each such key is one note that names its functions."""
    (folder / "env.yaml").write_text("environment: {}\n")
    two = FULL.replace("configuration:", "  two:\n    image: x\n    build_args: {A: 1}\nconfiguration:")

    stack = read(folder, two)

    notes = "\n".join(stack.notes_on(stack.functions))

    assert (
        "'build_args' (of hello) has no effect: Tailrace's own runtime serves python3-flask-debian" in notes
    )
    assert "'build_args' (of two) has no effect where nothing is built" in notes
    for key in ("fprocess", "constraints", "limits", "requests", "readonly_root_filesystem", "platforms"):
        assert f"'{key}' (of hello)" in notes
    for key in ("build_options", "build_secrets"):
        assert notes.count(f"'{key}'") == 1
    assert "request bodies are always complete before a Flask handler runs" in notes


def test_notes_are_about_the_functions_that_are_asked_for(folder: Path) -> None:
    """A filter leaves the others' notes out."""
    (folder / "two").mkdir()
    text = FN + "    limits: {cpu: 1}\n  two:\n    lang: python3-http\n    handler: ./two\n    fprocess: x\n"
    stack = read(folder, text)

    notes = stack.notes_on(stack.select(pattern="two"))

    runtime = "Tailrace's own runtime serves python3-http"
    assert notes == (f"stack.yaml: 'fprocess' (of two) has no effect: {runtime}",)


@pytest.mark.parametrize("lang", ["node20", "python3-flask", "python3-http-debian", "my.own_1"])
def test_a_pulled_template_beside_the_file_is_taken(folder: Path, lang: str) -> None:
    """Also one of a name of ours: what its server does is decided when it is built. Its keys have meaning."""
    (folder / "template" / lang).mkdir(parents=True)

    stack = read(folder, FN.replace("python3-flask", lang) + "    fprocess: x\n    build_args: {A: 1}\n")

    assert stack.functions[0].template == folder / "template" / lang
    assert stack.notes == ()


def test_a_pulled_template_in_the_current_folder_is_taken(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As faas-cli looks for it."""
    here = tmp_path_factory.mktemp("here")
    (here / "template" / "bash").mkdir(parents=True)
    monkeypatch.chdir(here)

    stack = read(folder, FN.replace("python3-flask", "bash"))

    assert stack.functions[0].template == here / "template" / "bash"


def test_a_dockerfile_needs_no_template(folder: Path) -> None:
    """Its handler folder is the whole context; whether that can run is said when it is built."""
    stack = read(folder, FN.replace("python3-flask", "dockerfile"))

    assert (stack.functions[0].lang, stack.functions[0].template) == ("dockerfile", None)


@pytest.mark.parametrize("lang", ["../hello", "/etc", ".hidden", "a/b", ""])
def test_a_template_is_a_name_never_a_path(folder: Path, lang: str) -> None:
    """A path would reach what is no template."""
    (folder / "template").mkdir()

    assert refusal(folder, FN.replace("python3-flask", f"'{lang}'"))


@pytest.mark.parametrize("place", ["..", ".", "../other", "/etc", "hello/../.."])
def test_what_is_copied_lies_inside_the_project(folder: Path, place: str) -> None:
    """The project itself and what is outside are refused, as faas-cli does."""
    refused = refusal(folder, f"{FN}configuration:\n  copy: ['{place}']\n")

    assert "is not inside the folder" in refused.message


def test_what_is_copied_has_to_be_there(folder: Path) -> None:
    """The message names it."""
    refused = refusal(folder, f"{FN}configuration:\n  copy: [./commn]\n")

    assert "'./commn' in 'copy' does not exist" in refused.message


def test_a_plain_stack_file_has_no_notes(folder: Path) -> None:
    """Words appear only where there is something to say; the image's name defaults to the function's."""
    stack = read(folder, FN)

    assert stack.notes == ()
    assert stack.functions[0].image == "hello:latest"


def test_build_args_may_be_a_list(folder: Path) -> None:
    """The form that OpenFaaS's own docs show, and its schema rejects, works too."""
    stack = read(folder, FN + "    build_args:\n      - A=1\n      - B=x=y\n")

    assert stack.functions[0].build_args == {"A": "1", "B": "x=y"}


def test_variables_are_substituted(folder: Path) -> None:
    """`${VAR:-default}` works anywhere in the file, and can be turned off."""
    text = FN + "    image: ${REGISTRY:-ghcr.io}/hello:${TAG:-latest}\n"

    assert read(folder, text, {"TAG": "7"}).functions[0].image == "ghcr.io/hello:7"
    (folder / "stack.yaml").write_text(text)
    raw = load_stack(folder / "stack.yaml", {}, expand=False)
    assert raw.functions[0].image == "${REGISTRY:-ghcr.io}/hello:${TAG:-latest}"


def test_anchors_and_merges_work(folder: Path) -> None:
    """Shared settings can be written once."""
    text = FN + "    environment: &env {A: 1, B: 2}\n"
    text += "  two:\n    <<: {image: y}\n    environment:\n      <<: *env\n      B: 3\n"

    hello, two = read(folder, text).functions

    assert (hello.env, two.env) == ({"A": "1", "B": "2"}, {"A": "1", "B": "3"})
    assert two.image == "y"


@pytest.mark.parametrize(
    ("text", "line", "words", "hint"),
    [
        (FN + "    enviroment: {}\n", 6, "'enviroment' is not a key of a function", "'environment'"),
        ("provder: {name: openfaas}\n", 1, "'provder' is not a key of a stack file", "'provider'"),
        ("provider:\n  nam: x\n", 2, "'nam' is not a key of provider", "'name'"),
        (FN + "    limits: {memry: 1}\n", 6, "'memry' is not a key of limits", "'memory'"),
        ("provider: {name: faas}\nfunctions: {}\n", 1, "must be 'openfaas'", ""),
        ("functions: {}\n", 1, "provider.name is missing", ""),
        ("version: 2.0\nprovider: {name: openfaas}\n", 1, "version '2.0' is not known", ""),
        ("provider: {name: openfaas}\n", 1, "there are no functions", ""),
        (HEAD + "  Hello: {image: x}\n", 3, "function name 'Hello' must be", ""),
        (HEAD + "  hello:\n", 3, "needs lang and handler, or an image", ""),
        (HEAD + "  hello:\n    lang: python3-flask\n", 4, "has no handler", ""),
        (FN.replace("flask", "flsk"), 4, "there is no template 'python3-flsk'", "'python3-flask'"),
        (FN.replace("./hello", "./nowhere"), 5, "the handler of 'hello' is no folder: ./nowhere", ""),
        (FN + "    environment: [A]\n", 6, "'environment' must be a mapping", ""),
        (FN + "    environment: {A: [1]}\n", 6, "'environment.A' must be one value, not a list", ""),
        (FN + "    secrets: api-key\n", 6, "'secrets' must be a list", ""),
        (FN + "    secrets: ['../x']\n", 6, "'../x' is no valid secret name", ""),
        (FN + "    skip_build: maybe\n", 6, "'skip_build: maybe' is neither true nor false", ""),
        (FN + "    build_args: [A]\n", 6, "'A' in 'build_args' is not of the form NAME=value", ""),
        (FN + "    namespace: No_Good\n", 6, "namespace 'No_Good'", ""),
        (FN + "    image: a\n    image: b\n", 7, "'image' is there twice, first in line 6", ""),
        (FN + "    image: ${\n", 6, "needs a variable's name", ""),
        (FN + "    image: 'x\n", 7, "unexpected end", ""),
        (FN + "  - x\n", 6, "", ""),
        ("[a, b]: c\n", 1, "a key must be a word", ""),
    ],
)
def test_a_mistake_is_refused_with_its_line(
    folder: Path, text: str, line: int, words: str, hint: str
) -> None:
    """The message names file and line, says what is wrong, and offers the nearest known word."""
    refused = refusal(folder, text)

    assert refused.message.startswith(f"stack.yaml line {line}: ")
    assert words in refused.message
    assert hint in (refused.hint or "")


def test_code_that_is_missing_is_told_of_functions_that_are_chosen(folder: Path) -> None:
    """The others of the file can be worked with, and those whose code is gone be named, to remove them."""
    other = "  other:\n    lang: python3-flask\n    handler: ./nowhere\n"
    untold = "  third:\n    lang: not-pulled\n    handler: ./hello\n"

    stack = read(folder, FN + other + untold)

    assert ["hello"] == [f.name.name for f in stack.select(pattern="hello")]
    assert ["hello", "other", "third"] == [f.name.name for f in stack.matching()]
    for name, words in (("other", "is no folder: ./nowhere"), ("third", "there is no template 'not-pulled'")):
        with pytest.raises(InvalidDeployment, match=words):
            stack.select(pattern=name)


def test_an_environment_file_of_an_impossible_name_is_an_error(folder: Path) -> None:
    """No file's name holds a NUL."""
    told = refusal(folder, FN + '    environment_file: ["a\\0b"]\n').message
    assert "a\\x00b' is the name of no file" in told


def test_a_missing_environment_file_is_an_error(folder: Path) -> None:
    """A function is never deployed with half its settings."""
    assert "cannot read" in refusal(folder, FN + "    environment_file: [none.yml]\n").message


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [" + f"*{chr(97 + i)}," * 10 + "]\n" for i in range(8)),
        "a: &a [*a]\n",
        "[" * 50_000,
        "a: " * 3,
        "x" * 300_000,
        "a: !!python/object/apply:os.system [id]\n",
        "--- a\n--- b\n",
        "a: \x00\n",
    ],
)
def test_a_hostile_file_costs_only_a_message(folder: Path, text: str) -> None:
    """Alias bombs, endless nesting, tags and junk are refused quickly."""
    assert refusal(folder, text).message.startswith("stack.yaml")


def test_functions_are_selected_by_glob_or_expression(folder: Path) -> None:
    """`--filter` and `--regex` choose; both at once, and no match, are errors."""
    stack = read(folder, HEAD + "  web-a: {image: x}\n  web-b: {image: x}\n  job: {image: x}\n")

    assert [f.name.name for f in stack.select(pattern="web-*")] == ["web-a", "web-b"]
    assert [f.name.name for f in stack.select(regex="b$|^b|job")] == ["web-b", "job"]
    assert len(stack.select()) == 3
    with pytest.raises(InvalidUsage, match="exclude"):
        stack.select(pattern="a", regex="b")
    with pytest.raises(InvalidDeployment, match="it has 'web-a', 'web-b', 'job'"):
        stack.select(pattern="none")
    with pytest.raises(InvalidUsage, match="no regular expression"):
        stack.select(regex="(")


def test_the_stack_file_is_found_by_name(folder: Path) -> None:
    """stack.yaml, then stack.yml, then an error that says how to begin."""
    with pytest.raises(NotFound, match=r"no stack\.yaml"):
        find_stack_file(None, folder)
    (folder / "stack.yml").write_text("")
    assert find_stack_file(None, folder) == folder / "stack.yml"
    (folder / "stack.yaml").write_text("")
    assert find_stack_file(None, folder) == folder / "stack.yaml"
    with pytest.raises(NotFound, match=r"other\.yml"):
        find_stack_file("other.yml", folder)
    with pytest.raises(InvalidDeployment, match="https://"):
        find_stack_file("https://example.com/stack.yaml", folder)
