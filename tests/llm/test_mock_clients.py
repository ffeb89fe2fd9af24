"""The mock against the clients that people use: the OpenAI SDK and LangChain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import SecretStr

from tailrace.llm.behaviour import Behaviour
from tailrace.llm.mock import text
from tests.kit.model import Mock, running_mock

QUESTION = "What are some calorie dense foods?"
ANSWER = "".join(text.answer(QUESTION))
MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def mock(request: pytest.FixtureRequest) -> Iterator[Mock]:
    with running_mock(is_uvloop=request.param == "uvloop") as running:
        yield running


@pytest.fixture(scope="module")
def client(mock: Mock) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client:
        yield client


def stream(client: openai.OpenAI, model: str = "mock", said: list[str] | None = None) -> list[str]:
    """The contents of a streamed chat's chunks; those before a failure are in `said`."""
    said = [] if said is None else said
    with client.chat.completions.create(model=model, messages=MESSAGES, stream=True) as chunks:
        for chunk in chunks:
            said += [choice.delta.content or "" for choice in chunk.choices]
    return said


def test_a_streamed_chat_says_the_answer_token_by_token(client: openai.OpenAI) -> None:
    """Each token is a chunk; the last one says why it stopped."""
    with client.chat.completions.create(
        model="mock", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(text.answer(QUESTION))


def test_a_chat_in_one_piece_says_the_same(client: openai.OpenAI) -> None:
    """Streaming changes the framing, not the words."""
    whole = client.chat.completions.create(model="mock?tokens=4", messages=MESSAGES)

    assert whole.choices[0].message.content == "Some calorie dense"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 4


def test_max_tokens_ends_the_answer_by_length(client: openai.OpenAI) -> None:
    """A request's limit wins over the mock's length, and the finish reason says so."""
    whole = client.chat.completions.create(
        model="mock?tokens=50", messages=MESSAGES, max_completion_tokens=7, extra_body={"mock": {"tps": 0}}
    )

    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 7


def test_plain_completions_stream_too(client: openai.OpenAI) -> None:
    """The older endpoint has the same answer in its own shape."""
    whole = client.completions.create(model="mock", prompt=QUESTION)
    with client.completions.create(model="mock", prompt=QUESTION, stream=True) as chunks:
        said = [chunk.choices[0].text for chunk in chunks]

    assert ANSWER == whole.choices[0].text == "".join(said)


def test_the_responses_endpoint_streams_its_events(client: openai.OpenAI) -> None:
    """Deltas come one by one, and the end holds the whole text."""
    with client.responses.create(model="mock", input=QUESTION, stream=True) as events:
        seen = list(events)
    whole = client.responses.create(model="mock", input=[{"role": "user", "content": QUESTION}])

    deltas = [event.delta for event in seen if event.type == "response.output_text.delta"]
    assert "".join(deltas) == ANSWER == whole.output_text
    assert seen[-1].type == "response.completed"
    assert seen[-1].response.output_text == ANSWER
    assert list(range(len(seen))) == [event.sequence_number for event in seen]


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    """A client that looks for models finds one."""
    assert [model.id for model in client.models.list()] == ["mock"]


def test_an_error_object_midway_raises_after_what_came(client: openai.OpenAI) -> None:
    """The SDK turns the event into APIError; the tokens before it were seen."""
    said: list[str] = []

    with pytest.raises(openai.APIError, match="told to fail") as failed:
        stream(client, "mock?error_after=3", said)

    assert not isinstance(failed.value, openai.APIConnectionError)
    assert [part for part in said if part] == ["Some", " calori", "e"]


@pytest.mark.parametrize("fault", ["reset_after=3", "cut_after=3"])
def test_a_connection_that_breaks_midway_raises(client: openai.OpenAI, fault: str) -> None:
    """Neither a reset nor a missing end looks like a complete answer."""
    with pytest.raises(openai.APIConnectionError):
        stream(client, f"mock?{fault}")


def test_a_reset_delivers_the_tokens_before_it(client: openai.OpenAI) -> None:
    """With a pace, the client has read what was sent when the reset comes."""
    said: list[str] = []

    with pytest.raises(openai.APIConnectionError):
        stream(client, "mock?reset_after=3&tps=20", said)

    assert [part for part in said if part] == ["Some", " calori", "e"]


def test_a_truncated_stream_ends_without_a_reason(client: openai.OpenAI) -> None:
    """It is the fault that no client notices: only the finish reason is missing."""
    said = stream(client, "mock?truncate_after=3")

    assert [part for part in said if part] == ["Some", " calori", "e"]


def test_a_malformed_event_raises(client: openai.OpenAI) -> None:
    """What is no JSON is no chunk."""
    with pytest.raises(ValueError, match="Unterminated string"):
        stream(client, "mock?malformed_after=3")


@pytest.mark.parametrize(
    ("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)]
)
def test_a_status_is_answered_before_any_token(
    client: openai.OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    """The SDK's own exception comes, with the wait that was asked for."""
    with pytest.raises(error) as failed:
        stream(client, f"mock?status={status}&retry_after=7")

    assert failed.value.response.headers["retry-after"] == "7"


def test_an_unknown_knob_is_a_bad_request_that_names_the_known(client: openai.OpenAI) -> None:
    """A test with a typing error fails, instead of testing something else."""
    with pytest.raises(openai.BadRequestError, match="known keys: ttft, tps, tokens"):
        stream(client, "mock?ttfb=1")
    with pytest.raises(openai.BadRequestError, match="unknown key 'x'"):
        client.chat.completions.create(model="mock", messages=MESSAGES, extra_body={"mock": {"x": 1}})


def test_a_wrong_key_is_refused_where_one_is_set() -> None:
    """A function that sends no key is found out."""
    with running_mock(api_key="right") as mock:
        for key, is_right in (("wrong", False), ("right", True)):
            with openai.OpenAI(base_url=mock.base_url, api_key=key, max_retries=0) as client:
                if is_right:
                    assert "".join(stream(client)) == ANSWER
                else:
                    with pytest.raises(openai.AuthenticationError):
                        stream(client)


def test_the_async_client_streams(mock: Mock) -> None:
    """AsyncOpenAI, many at once over shared connections."""

    async def ask(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model="mock", messages=MESSAGES, stream=True)
        async with stream:
            return "".join([c.choices[0].delta.content or "" async for c in stream])

    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(ask(client) for _ in range(20)))

    assert asyncio.run(main()) == [ANSWER] * 20


def test_langchain_streams(mock: Mock) -> None:
    """The client of examples/stream."""
    model = ChatOpenAI(model="mock", base_url=mock.base_url, api_key=SecretStr("any"), max_retries=0)

    assert "".join(str(chunk.content) for chunk in model.stream(QUESTION)) == ANSWER


def test_a_stalled_stream_waits_for_the_client_to_leave() -> None:
    """Silence, an open connection, and a note of the client's leaving."""
    with (
        running_mock(Behaviour(ttft_s=0, tps=0, stall_after=2)) as mock,
        openai.OpenAI(base_url=mock.base_url, api_key="any", max_retries=0) as client,
    ):
        with client.chat.completions.create(model="mock", messages=MESSAGES, stream=True) as chunks:
            said = [next(chunks).choices[0].delta.content for _ in range(3)]

        log = mock.wait(lambda log: log.client_closed == 1)
        assert said == ["", "Some", " calori"]
        assert [(r.outcome, r.tokens_sent) for r in log.requests] == [("client_left", 2)]
