"""What a function may ask of Tailrace by annotation: one row per ``com.tailrace.*`` key.

Rows are read from annotations first and then, for the keys that OpenFaaS has of its own, from labels.
An unknown ``com.tailrace.*`` key is refused with the nearest known one, so a typing error never
silently means the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from tailrace.errors import InvalidDeployment
from tailrace.names import nearest

Worker = Literal["greenlets", "threads"]
DialectName = Literal["native", "passthrough", "openai", "ai-sdk", "ndjson", "plain"]

PREFIX = "com.tailrace."
# A single machine runs process replicas; more than this is a typing error, not a wish.
MAX_REPLICAS = 100


@dataclass(frozen=True, slots=True)
class Option:
    """One annotation: its key, the values it takes, what absence means, and a sentence for the docs."""

    key: str
    choices: tuple[str, ...]
    default: str
    sentence: str


WORKER = Option(
    "com.tailrace.worker",
    ("greenlets", "threads"),
    "greenlets",
    "What runs a plain `def` handler: gevent greenlets, or real threads for libraries it cannot patch.",
)
DIALECT = Option(
    "com.tailrace.stream.dialect",
    ("native", "passthrough", "openai", "ai-sdk", "ndjson", "plain"),
    "",
    "The framing of the function's stream, when its head and first event do not tell: "
    "it decides how a failure after the first byte is told.",
)
OPTIONS: tuple[Option, ...] = (WORKER, DIALECT)


@dataclass(frozen=True, slots=True)
class FunctionOptions:
    """The options of one function, checked. ``dialect`` None means: detect it."""

    worker: Worker = "greenlets"
    dialect: DialectName | None = None
    min_replicas: int = 1


def read_options(annotations: Mapping[str, str], labels: Mapping[str, str]) -> FunctionOptions:
    """The options that a deployment's annotations and labels ask for.

    Raises:
        InvalidDeployment: an unknown ``com.tailrace.*`` key, or a value the key does not take.
    """
    known = {option.key: option for option in OPTIONS}
    for key in [*annotations, *labels]:
        if key.startswith(PREFIX) and key not in known:
            near = nearest(key, known)
            hint = f"Did you mean '{near}'?" if near else f"Known keys: {', '.join(sorted(known))}."
            raise InvalidDeployment(f"annotation '{key}' is not one Tailrace knows", hint=hint)
    worker = _choice(WORKER, annotations)
    dialect = _choice(DIALECT, annotations)
    return FunctionOptions(
        worker=cast("Worker", worker),
        dialect=cast("DialectName", dialect) if dialect else None,
        min_replicas=_replicas(labels.get("com.openfaas.scale.min", "1")),
    )


def _choice(option: Option, annotations: Mapping[str, str]) -> str:
    value = annotations.get(option.key, option.default)
    if value != option.default and value not in option.choices:
        raise InvalidDeployment(
            f"annotation '{option.key}: {value}' is not one of {', '.join(option.choices)}"
        )
    return value


def _replicas(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > MAX_REPLICAS:
        raise InvalidDeployment(
            f"label 'com.openfaas.scale.min: {text[:40]}' is not a whole number from 0 to {MAX_REPLICAS}"
        )
    return max(1, int(text))  # scale to zero is the autoscaler's, which does not exist yet
