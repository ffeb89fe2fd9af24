"""What the mock says: a sensible answer that depends on the prompt alone, cut into tokens like a model's."""

from __future__ import annotations

import functools
import itertools
import re
import zlib

_FOODS = """Some calorie dense foods include nuts, seeds, avocados, cheese, peanut butter, dark chocolate, \
olive oil, dried fruit and whole milk.

A few that are easy to add to a meal:
- a handful of almonds or walnuts
- a spoon of peanut butter on toast
- half an avocado in a salad
- grated cheese on pasta

They hold a lot of energy in a small portion, so a little goes a long way."""

_CITIES = """The capital of France is Paris.

Other capitals close by:
- Brussels, Belgium
- Bern, Switzerland
- Madrid, Spain"""

_GREETING = """Hello! I am a mock model: I answer at once, always the same, and I cost nothing.

Ask me anything, and you will see my words arrive one by one."""

# The first row with a word that stands in the prompt gives the answer.
_TOPICS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("calorie", "food", "eat", "snack"), _FOODS),
    (("capital", "france", "paris"), _CITIES),
    (("hello", "hi", "who are you"), _GREETING),
)

_OPENINGS = (
    "Good question. ",
    "Here is a short answer. ",
    "There are a few things to say about that. ",
    "In brief: ",
)

_SENTENCES = (
    "It depends on what you need first.",
    "Start with the smallest thing that works.",
    "Measure before you change anything.",
    "Write down what you expect, then compare.",
    "Most of the time one clear step is enough.",
    "Keep the parts that are simple, and name the ones that are not.",
    "If two ways look equal, take the one you can undo.",
    "Ask someone who has done it before.",
    "Then do it once more, and it will be easier.",
    "A list helps:\n- what is known\n- what is not\n- what to try next",
)

# Pieces as a model's tokenizer makes them: the space leads, long words fall apart, line ends stand alone
# or cling to the sign before them (":\n\n"), which is what breaks a naive `data: {token}` framing.
_PIECE = re.compile(r"[^\w\s]?\n+| ?\w{1,6}|[^\w\s]|\s")


def split(text: str) -> tuple[str, ...]:
    """The tokens of a text; joined they are the text."""
    return tuple(_PIECE.findall(text))


@functools.lru_cache(maxsize=256)
def answer(prompt: str) -> tuple[str, ...]:
    """The tokens of the natural answer to a prompt; the same prompt always gets the same."""
    words = set(re.findall(r"\w+", prompt.lower()))
    for keys, text in _TOPICS:
        if any(key in words or key + "s" in words for key in keys):
            return split(text)
    seed = zlib.crc32(prompt.encode("utf-8", "replace"))
    start = seed % len(_SENTENCES)
    chosen = [_SENTENCES[(start + 3 * i) % len(_SENTENCES)] for i in range(5)]
    return split(_OPENINGS[seed % len(_OPENINGS)] + " ".join(chosen))


@functools.lru_cache(maxsize=256)
def tokens(prompt: str, length: int | None) -> tuple[str, ...]:
    """Exactly `length` tokens of the answer, beginning anew on a new paragraph where it is too short."""
    natural = answer(prompt)
    if length is None or length == len(natural):
        return natural
    return tuple(itertools.islice(itertools.cycle((*natural, "\n\n")), length))
