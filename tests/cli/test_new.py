"""`tailrace new`: a function's folder and its entry in the stack file."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.build.templates import template_names
from tailrace.cli.commands.new import make
from tailrace.cli.stackfile import load_stack
from tailrace.errors import AlreadyExists, InvalidDeployment, InvalidRequest, InvalidUsage, TailraceError


@pytest.mark.parametrize("lang", template_names())
def test_what_is_made_can_be_deployed(tmp_path: Path, lang: str) -> None:
    """Each template gives a stack file that reads without a note, and a handler."""
    result = make("hello", lang, None, tmp_path)

    assert result.text.endswith("next: tailrace up")
    stack = load_stack(tmp_path / "stack.yaml", {})
    assert (stack.notes, stack.gateway) == ((), "http://127.0.0.1:8080")
    assert [(f.name.name, f.lang, f.handler) for f in stack.functions] == [
        ("hello", lang, tmp_path / "hello")
    ]
    made = sorted(path.name for path in (tmp_path / "hello").iterdir())
    assert made == ["handler.py", "requirements.txt"]


STACK = """\
# ours
version: 1.0
provider:   # the only one
  name: openfaas
functions:
  one:      # first
    image: one
    environment: {A: "1"}   # kept

# what follows
configuration:
  copy: []
"""


def test_a_full_disk_leaves_the_stack_file_as_it_was(tmp_path: Path) -> None:
    """It is somebody's work; the folder that was begun is taken back."""
    stack = tmp_path / "stack.yaml"
    text = STACK + "# a comment\n" * 1000
    stack.write_text(text)
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
    code += "from tailrace.cli.main import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, "new", "two", "--append", "stack.yaml"],
        cwd=tmp_path, env={"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True,
        timeout=60,
    )  # fmt: skip

    assert 1 == done.returncode
    assert text == stack.read_text()
    assert ["stack.yaml"] == [path.name for path in tmp_path.iterdir()]


def test_appending_keeps_the_file_s_rights_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(STACK)
    (tmp_path / "real.yaml").chmod(0o640)
    (tmp_path / "stack.yaml").symlink_to("real.yaml")

    make("two", "python3-flask", Path("stack.yaml"), tmp_path)

    assert (tmp_path / "stack.yaml").is_symlink()
    assert 0o640 == stat.S_IMODE((tmp_path / "real.yaml").stat().st_mode)
    assert "  two:\n" in (tmp_path / "real.yaml").read_text()


def test_appending_keeps_every_byte_that_was_there(tmp_path: Path) -> None:
    """Comments, order and spacing stay; the entry stands at the end of the functions."""
    stack = tmp_path / "stack.yaml"
    stack.write_text(STACK)

    make("two", "python3-flask", Path("stack.yaml"), tmp_path)

    entry = "  two:\n    lang: python3-flask\n    handler: ./two\n    image: two:latest\n"
    before, after = STACK.split("  # kept\n")
    assert stack.read_text() == f"{before}  # kept\n{entry}{after}"


@pytest.mark.parametrize(
    "text",
    [
        "provider: {name: openfaas}\nfunctions:\n  one:\n    image: x",
        "provider: {name: openfaas}\nfunctions:\n    one:\n        image: x\n",
        "functions:\n  one: {image: x}\nprovider:\n  name: openfaas\n",
        "provider: {name: openfaas}\nfunctions:\n  one: {image: '${X:-a}'}\n\n# the end\n",
    ],
)
def test_appending_works_whatever_the_file_looks_like(tmp_path: Path, text: str) -> None:
    """No newline at the end, other indentation, functions first, comments last."""
    (tmp_path / "s.yml").write_text(text)

    result = make("two", "python3-http", Path("s.yml"), tmp_path)

    assert result.text.endswith("next: tailrace up -f s.yml")
    assert [f.name.name for f in load_stack(tmp_path / "s.yml", {}).functions] == ["one", "two"]


def test_a_function_can_be_added_to_a_stack_file_elsewhere(tmp_path: Path) -> None:
    """The handler's path is written as seen from the stack file."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/stack.yaml").write_text(STACK)

    make("two", "python3-flask", Path("deploy/stack.yaml"), tmp_path)

    assert load_stack(tmp_path / "deploy/stack.yaml", {}).functions[1].handler is not None


@pytest.mark.parametrize(
    ("name", "lang", "append", "error"),
    [
        ("Bad_Name", "python3-flask", None, InvalidRequest),
        ("../up", "python3-flask", None, InvalidRequest),
        ("ok", "python3-falsk", None, InvalidDeployment),
        ("taken", "python3-flask", None, AlreadyExists),
        ("ok", "python3-flask", None, AlreadyExists),
        ("one", "python3-flask", Path("stack.yaml"), AlreadyExists),
        ("ok", "python3-flask", Path("none.yaml"), InvalidDeployment),
        ("ok", "python3-flask", Path("flow.yaml"), InvalidDeployment),
        ("ok", "python3-flask", Path("empty.yaml"), InvalidDeployment),
    ],
)
def test_a_refusal_leaves_everything_as_it_was(
    tmp_path: Path, name: str, lang: str, append: Path | None, error: type[TailraceError]
) -> None:
    """Nothing is overwritten and nothing is half-made."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "stack.yaml").write_text(STACK)
    (tmp_path / "flow.yaml").write_text("provider: {name: openfaas}\nfunctions: {one: {image: x}}\n")
    (tmp_path / "empty.yaml").write_text("provider: {name: openfaas}\n")
    before = {path: path.read_bytes() if path.is_file() else b"" for path in tmp_path.rglob("*")}

    with pytest.raises(error):
        make(name, lang, append, tmp_path)

    assert {path: path.read_bytes() if path.is_file() else b"" for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "text",
    [
        "provider: {name: openfaas}\nfunctions:\n",
        "provider: {name: openfaas}\nfunctions:  # none yet",
        "functions:\n\n# whose\nprovider: {name: openfaas}\n",
        "provider: {name: openfaas}\nfunctions: &all\n  one: {image: x}\n",
    ],
)
def test_the_first_function_goes_below_its_key(tmp_path: Path, text: str) -> None:
    """Whatever follows, and without an end of the line."""
    (tmp_path / "s.yml").write_text(text)

    make("two", "python3-http", Path("s.yml"), tmp_path)

    assert "two" in [f.name.name for f in load_stack(tmp_path / "s.yml", {}).functions]
    assert all(line in (tmp_path / "s.yml").read_text().splitlines() for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "provider: {name: openfaas}\nfunctions: {one: {image: x}}\n",
        "provider: {name: openfaas}\nfunctions:\n  {one: {image: x}}\n",
        "{provider: {name: openfaas}, functions: {one: {image: x}}}\n",
        "provider: {name: openfaas}\nfunctions: {}\n",
        "provider: {name: openfaas}\nfunctions: ~\n",
    ],
)
def test_functions_in_braces_are_told_by_their_line(tmp_path: Path, text: str) -> None:
    """That line is there, and the hint says what would do."""
    (tmp_path / "s.yml").write_text(text)

    with pytest.raises(InvalidDeployment, match=r"s.yml line [12]: nothing can be added") as refused:
        make("two", "python3-http", Path("s.yml"), tmp_path)

    assert "below 'functions:'" in (refused.value.hint or "")
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"handler": "/etc/x"}, {"handler": "../x"}, {"handler": "a/../../x"}, {"handler": "."},
        {"handler": "a: b #c"}, {"handler": "a\nb"}, {"prefix": "a\nb"}, {"prefix": "a b"}, {"prefix": "é"},
        {"gateway": "ftp://x"}, {"gateway": "http://x\nfunctions: {}"},
    ],
)  # fmt: skip
def test_an_option_that_could_write_elsewhere_or_anything_is_refused(
    tmp_path: Path, options: dict[str, str]
) -> None:
    """Only inside the current folder, and only what YAML takes for one value."""
    folder = tmp_path / "here"
    folder.mkdir()

    with pytest.raises(InvalidUsage):
        make("ok", "python3-flask", None, folder, **options)

    assert [folder] == list(tmp_path.rglob("*"))


def test_a_gateway_is_no_option_of_a_stack_file_that_is_there(tmp_path: Path) -> None:
    """It names its own, and nothing is ignored."""
    (tmp_path / "stack.yaml").write_text(STACK)

    with pytest.raises(InvalidUsage, match=r"stack\.yaml names its own"):
        make("two", "python3-flask", Path("stack.yaml"), tmp_path, gateway="http://x")


def test_an_unknown_template_is_answered_with_those_that_are_here(tmp_path: Path) -> None:
    """Pulled ones too; a pull is proposed for what can be the name of one."""
    (tmp_path / "template/ruby-tiny").mkdir(parents=True)
    (tmp_path / "template/ruby-tiny/template.yml").write_text("language: ruby\n")

    hints = []
    for lang in ("ruby-tini", "xyz", "../xyz"):
        with pytest.raises(InvalidDeployment) as refused:
            make("ok", lang, None, tmp_path)
        hints.append(refused.value.hint or "")

    assert "Did you mean 'ruby-tiny'?" in hints[0]
    assert "ruby-tiny" in hints[1]
    assert "tailrace template store pull xyz" in hints[1]
    assert "store pull" not in hints[2]
