"""`tailrace new`: a function's folder and its entry in the stack file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.build.templates import template_names
from tailrace.cli.commands.new import make
from tailrace.cli.stackfile import load_stack
from tailrace.errors import AlreadyExists, InvalidDeployment, InvalidRequest, TailraceError


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
