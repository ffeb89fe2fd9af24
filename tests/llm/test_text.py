"""text: what the mock says."""

from __future__ import annotations

from tailrace.llm.mock import text


def test_the_same_prompt_always_gets_the_same_answer() -> None:
    """The mock is deterministic, also across processes: no hash seed is in it."""
    assert text.answer("What are some calorie dense foods?")[:4] == ("Some", " calori", "e", " dense")
    assert text.answer("Tell me about turbines") == text.answer("Tell me about turbines")


def test_tokens_joined_are_the_text_with_its_line_ends() -> None:
    """Nothing is lost in the cut, and some tokens hold line ends as a model's do."""
    said = "One:\n\n- a first, long-winded word\n- ü\tÄ\n"

    tokens = text.split(said)

    assert said == "".join(tokens)
    assert ":\n\n" in tokens


def test_the_food_question_gets_foods() -> None:
    """A demo with the mock reads sensibly."""
    said = "".join(text.answer("What are some calorie dense foods?"))

    assert "nuts, seeds, avocados" in said
    assert "\n- " in said


def test_a_length_is_met_exactly_by_going_round() -> None:
    """Load tests get as many tokens as they ask for."""
    assert len(text.tokens("hello", 1000)) == 1000
    assert len(text.tokens("hello", 3)) == 3
    assert text.tokens("hello", 0) == ()
