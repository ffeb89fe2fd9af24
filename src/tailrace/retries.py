"""What a function's annotations say of its asynchronous calls: their queue, and when they are tried again.

The keys are OpenFaaS's. Source: contract section 7. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.durations import parse_duration
from tailrace.errors import InvalidDeployment
from tailrace.names import is_function_label

QUEUE = "com.openfaas.queue"
ATTEMPTS = "com.openfaas.retry.attempts"
CODES = "com.openfaas.retry.codes"
MIN_WAIT = "com.openfaas.retry.min_wait"
MAX_WAIT = "com.openfaas.retry.max_wait"

DEFAULT_QUEUE = "default"
# Source: contract section 7.
DEFAULT_CODES = frozenset((408, 429, 500, 502, 503, 504))
_ATTEMPTS_LIMIT = 10_000
_A_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retries:
    """What one function says. None: nothing, so the gateway's setting holds.

    Attributes:
        attempts: Tries in all.
        codes: Statuses of an answer after which the call is tried again.
        min_wait_s: Most that is waited before the second try.
        max_wait_s: Most that is waited between two tries.
        after_first_byte: Whether a call is tried again that has answered something already.
    """

    queue: str = DEFAULT_QUEUE
    attempts: int | None = None
    codes: frozenset[int] = DEFAULT_CODES
    min_wait_s: float | None = None
    max_wait_s: float | None = None
    after_first_byte: bool = False


def read_retries(annotations: Mapping[str, str], *, after_first_byte: bool) -> Retries:
    """What a function's annotations say.

    Raises:
        InvalidDeployment: one of them says nothing that can be followed.
    """
    queue = annotations.get(QUEUE, "").strip() or DEFAULT_QUEUE
    if not is_function_label(queue) or queue in ("all", "off"):
        raise InvalidDeployment(
            f"annotation '{QUEUE}: {queue[:40]}' is no queue's name",
            hint="Use 1 to 63 of a-z, 0-9 and '-'; 'all' and 'off' mean something else.",
        )
    min_wait_s, max_wait_s = _wait(MIN_WAIT, annotations), _wait(MAX_WAIT, annotations)
    if min_wait_s is not None and max_wait_s is not None and min_wait_s > max_wait_s:
        raise InvalidDeployment(f"annotation '{MIN_WAIT}' is more than '{MAX_WAIT}'")
    return Retries(
        queue, _attempts(annotations), _codes(annotations), min_wait_s, max_wait_s, after_first_byte
    )


def _attempts(annotations: Mapping[str, str]) -> int | None:
    text = annotations.get(ATTEMPTS)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 5 or not 1 <= int(text) <= _ATTEMPTS_LIMIT:
        raise InvalidDeployment(
            f"annotation '{ATTEMPTS}: {text[:40]}' is not a whole number from 1 to {_ATTEMPTS_LIMIT}",
            hint="It counts tries in all: 1 means that a call is never tried again.",
        )
    return int(text)


def _codes(annotations: Mapping[str, str]) -> frozenset[int]:
    text = annotations.get(CODES)
    if text is None:
        return DEFAULT_CODES
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not all(len(code) == 3 and code.isascii() and code.isdigit() and int(code) >= 400 for code in found):
        raise InvalidDeployment(
            f"annotation '{CODES}: {text[:40]}' is not statuses from 400 to 999 with commas between them",
            hint="Such as 429,502,503.",
        )
    return frozenset(int(code) for code in found)


def _wait(key: str, annotations: Mapping[str, str]) -> float | None:
    text = annotations.get(key)
    if text is None:
        return None
    seconds = parse_duration(text)
    if seconds is None or not 0 < seconds <= _A_DAY_S:
        raise InvalidDeployment(
            f"annotation '{key}: {text[:40]}' is not a duration of at most 24h", hint="Write it as 10s or 2m."
        )
    return seconds
