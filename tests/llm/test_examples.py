"""examples/: each handler runs in the runtime as it stands, and loses no line end but the article's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tailrace.cli.stackfile import load_stack
from tailrace.llm.mock import text
from tailrace.wire.sse import SseDecoder
from tests.kit.model import Mock, running_mock
from tests.kit.replica import Replica, loaded_replica

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "What are some calorie dense foods?"
ANSWER = "".join(text.answer(QUESTION))
KEY = "mock-key"
KINDS: dict[str, Literal["flask", "stream"]] = {"stream": "flask", "stream-openai": "stream"}


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with running_mock(api_key=KEY) as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def example(request: pytest.FixtureRequest, mock: Mock) -> Iterator[Replica]:
    """A replica of an example, with the address in its environment and the key as its secret."""
    source = (EXAMPLES / request.param / request.param / "handler.py").read_text()
    env = {"OPENAI_BASE_URL": mock.base_url, "PYTHONWARNINGS": "error"}
    secrets = {"openai-api-key": f"{KEY}\n"}
    with loaded_replica(source, kind=KINDS[request.param], secrets=secrets, env=env) as replica:
        yield replica


@pytest.mark.slow
def test_the_answer_arrives_whole_as_events(example: Replica) -> None:
    """Several events, whose data joined is the model's text with every line end."""
    answer = example.ask(body=QUESTION.encode())

    events = SseDecoder().feed(answer.body)
    said = [event.data for event in events if event.event == "message"]
    assert answer.is_whole
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert len(said) > 20
    assert "".join(said) == ANSWER


@pytest.mark.slow
def test_a_caller_that_leaves_stops_the_model(mock: Mock) -> None:
    """The model's connection is closed by the function, midway."""
    source = (EXAMPLES / "stream-openai" / "stream-openai" / "handler.py").read_text()
    env = {"OPENAI_BASE_URL": mock.base_url, "OPENAI_MODEL": "mock?tps=20&tokens=2000"}
    with loaded_replica(source, secrets={"openai-api-key": KEY}, env=env) as replica:
        before = mock.server.log.client_closed
        with replica.talk() as talk:
            talk.send(body=b"hello")
            talk.read_head()
            talk.read_data()

        log = mock.wait(lambda log: log.client_closed > before)

    assert log.requests[-1].outcome == "client_left"


def test_the_seeds_framing_loses_line_ends_and_ours_does_not() -> None:
    """What the comment in examples/stream says is so."""
    source = (EXAMPLES / "stream" / "stream" / "handler.py").read_text()
    function: dict[str, object] = {}
    exec(source[source.index("def event") :], function)  # noqa: S102  # the example's own function
    event = function["event"]
    assert callable(event)
    tokens = [":\n\n", "\n- Nuts", "plain"]

    def read(frames: str) -> list[str]:
        return [found.data for found in SseDecoder().feed(frames.encode())]

    assert read("".join(event(token) for token in tokens)) == tokens
    assert read("".join(f"data: {token}\n\n" for token in tokens)) == [":", "", "plain"]


@pytest.mark.parametrize("name", ["stream", "stream-openai", "stream-seed"])
def test_each_example_is_a_stack_of_one_function(name: str) -> None:
    """``tailrace up -f examples/NAME/stack.yaml`` finds a handler, pinned packages and the key's name."""
    stack = load_stack(EXAMPLES / name / "stack.yaml", {})

    (function,) = stack.functions
    assert function.name.name == name
    assert function.secrets == ("openai-api-key",)
    assert function.handler is not None
    pins = (function.handler / "requirements.txt").read_text().splitlines()
    assert all("==" in pin for pin in pins if not pin.startswith("#"))
    assert (EXAMPLES / name / "README.md").exists()


def test_the_seeds_handler_is_the_articles_but_for_address_and_key() -> None:
    """Two lines differ; everything else is the article's text, which its hash stands for."""
    import hashlib

    lines = (EXAMPLES / "stream-seed" / "stream-seed" / "handler.py").read_text().splitlines()
    kept = [line for line in lines if "OPENAI_" not in line]

    digest = hashlib.sha256("\n".join(kept).encode()).hexdigest()
    assert len(lines) - len(kept) == 2
    assert digest == SEED_WITHOUT_ADDRESS_AND_KEY, json.dumps(kept)


SEED_WITHOUT_ADDRESS_AND_KEY = "3fa662828f78b1dc724b1db6bd68b107922c6cc7c0b93ede493e0944e16bbd14"
