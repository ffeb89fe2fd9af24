"""What a function may ask of Tailrace by annotation: one row per ``com.tailrace.*`` key.

Rows are read from annotations first and then, for the keys that OpenFaaS has of its own, from labels.
An unknown ``com.tailrace.*`` key is refused with the nearest known one, so a typing error never
silently means the default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, cast

from tailrace.durations import parse_duration
from tailrace.errors import InvalidDeployment
from tailrace.names import nearest
from tailrace.retries import Retries, read_retries
from tailrace.schedules import Schedule, has_topic, parse_schedule

Worker = Literal["greenlets", "threads"]
DialectName = Literal["native", "passthrough", "openai", "ai-sdk", "ndjson", "plain"]

PREFIX = "com.tailrace."
# A single machine runs process replicas; more than this is a typing error, not a wish.
MAX_REPLICAS = 100
MAX_CONCURRENCY = 1_000_000
_A_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Option:
    """One annotation: its key, the values it takes, what absence means, and a sentence for the docs.

    ``form`` says in words what it takes where that is no choice of a few; empty otherwise.
    """

    key: str
    choices: tuple[str, ...]
    default: str
    sentence: str
    form: str = ""


_CLOCK_FORM = "a duration such as `90s`, `1m30s` or `500ms`; `0` or `none`: no limit"

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
    "it decides how a failure after the first byte is told. Without it the dialect is detected.",
)
HEARTBEAT = Option(
    "com.tailrace.stream.heartbeat",
    ("off",),
    "",
    "Silence after which an event stream gets the comment `: ping`. "
    "Without it: `heartbeat_s` of the gateway.",
    "a duration such as `15s`, or `off`",
)
EARLY_HEAD = Option(
    "com.tailrace.stream.early-head",
    ("on", "off"),
    "",
    "Whether a caller that waits for an event stream gets its head after 5 s at most, and heartbeats from "
    "then on, also while no replica has the call yet. What fails later is told as an error event. "
    "Without it: for requests whose `Accept` names `text/event-stream` and no `application/json`.",
)
STATUS = Option(
    "com.tailrace.stream.status",
    ("on", "off"),
    "off",
    "Whether a caller that waits with an early head is told why: `event: status` with the state `queued` "
    "or `starting`. The head then goes out at once.",
)
RECORD = Option(
    "com.tailrace.stream.record",
    ("true", "false"),
    "false",
    "Whether every call is recorded, so that it can be watched, resumed and stopped as a run. "
    "A caller asks for the same by `X-Tailrace-Record: 1`; calls of the queue always are.",
)
ON_DISCONNECT = Option(
    "com.tailrace.on-disconnect",
    ("cancel", "continue"),
    "",
    "What becomes of a recorded call that nobody watches any more. It is also the most that a caller "
    "may choose by `X-Tailrace-On-Disconnect`. Without it: `grace:10s`, `continue` for calls of the queue. "
    "Calls that are not recorded end with their caller.",
    "`cancel`, `continue` or `grace:DURATION` of at most 24h, such as `grace:30s`",
)
CONCURRENCY = Option(
    "com.tailrace.concurrency.max",
    (),
    "",
    "Calls that one replica answers at once; more wait in the function's queue. "
    "OpenFaaS's `max_inflight` in `environment` means the same.",
    "a whole number; `0`: no limit",
)
RETRY_AFTER_FIRST_BYTE = Option(
    "com.tailrace.retry.after-first-byte", ("true", "false"), "false",
    "Whether an asynchronous call is tried again after its function has answered something already: "
    "what was said then stays in the run, and the next answer follows it.",
)  # fmt: skip
CRON_OVERLAP = Option(
    "com.tailrace.cron.overlap",
    ("allow", "skip"),
    "skip",
    "What a schedule does while its call before still runs: `skip` this moment, and say so in the "
    "function's log, or `allow` both.",
)
CRON_ASYNC = Option(
    "com.tailrace.cron.async", ("false", "true"), "false",
    "Whether a schedule's calls are asynchronous: kept, tried again, watched as runs.",
)  # fmt: skip
TIMEOUT_QUEUE = Option(
    "com.tailrace.timeout.queue", (), "", "How long a call waits for a free place on a ready replica. "
    "Without it: `queue_timeout_s` of the gateway.",
    _CLOCK_FORM,
)  # fmt: skip
TIMEOUT_START = Option(
    "com.tailrace.timeout.start", (), "", "How long the function may take to the first byte of its answer. "
    "Without it: the total of OpenFaaS's settings, else `start_timeout_s` of the gateway.",
    _CLOCK_FORM,
)  # fmt: skip
TIMEOUT_IDLE = Option(
    "com.tailrace.timeout.idle", (), "", "How long the function may be silent between two bytes. "
    "Without it: the total of OpenFaaS's settings, else `idle_timeout_s` of the gateway.",
    _CLOCK_FORM,
)  # fmt: skip
TIMEOUT_TOTAL = Option(
    "com.tailrace.timeout.total", (), "",
    "How long the whole answer may take, from the moment a replica takes the call. "
    "Without it: OpenFaaS's `exec_timeout`, else its `write_timeout`, else `total_timeout_s` of the gateway. "
    "A caller's `X-Timeout` may only shorten it.",
    _CLOCK_FORM,
)  # fmt: skip
OPTIONS: tuple[Option, ...] = (
    WORKER,
    DIALECT,
    HEARTBEAT,
    EARLY_HEAD,
    STATUS,
    RECORD,
    ON_DISCONNECT,
    CONCURRENCY,
    RETRY_AFTER_FIRST_BYTE,
    CRON_OVERLAP,
    CRON_ASYNC,
    TIMEOUT_QUEUE,
    TIMEOUT_START,
    TIMEOUT_IDLE,
    TIMEOUT_TOTAL,
)


_NO_RETRIES = Retries()


class _Replicas(TypedDict):
    min_replicas: int
    max_replicas: int
    scale_factor: int


@dataclass(frozen=True, slots=True)
class FunctionOptions:
    """The options of one function, checked. None everywhere means: not said, so the gateway's setting.

    Attributes:
        scale_factor: How many percent of ``max_replicas`` an alert adds; 0: alerts change nothing.
        dialect: None: detect it.
        heartbeat_s: Seconds; 0 for none.
        has_early_head: None: when the client's ``Accept`` names an event stream.
        is_recorded: Whether every call is.
        grace_s: How long a recorded call goes on without anybody: 0 not at all, infinite: to its end.
        concurrency: Calls per replica; 0: no limit.
        schedule: When it is called by itself; None: never.
        retries: Of its asynchronous calls.
        may_overlap: Whether that is so while its call before still runs.
        is_queued_by_clock: Whether those calls are asynchronous.
        queue_s, start_s, idle_s, total_s: The four clocks, seconds; 0: no limit.
        read_s: How long the request may take to come, seconds; 0: no limit.
    """

    worker: Worker = "greenlets"
    dialect: DialectName | None = None
    min_replicas: int = 1
    max_replicas: int = 20
    scale_factor: int = 10
    heartbeat_s: float | None = None
    has_early_head: bool | None = None
    has_status: bool = False
    is_recorded: bool = False
    grace_s: float | None = None
    concurrency: int = 0
    schedule: Schedule | None = None
    retries: Retries = _NO_RETRIES
    may_overlap: bool = False
    is_queued_by_clock: bool = False
    queue_s: float | None = None
    start_s: float | None = None
    idle_s: float | None = None
    total_s: float | None = None
    read_s: float | None = None


def read_options(
    annotations: Mapping[str, str], labels: Mapping[str, str], env: Mapping[str, str]
) -> FunctionOptions:
    """The options that a deployment asks for: by annotation, by label, by OpenFaaS's own variables.

    A total that comes from ``exec_timeout`` or ``write_timeout`` also is the ``start`` and the ``idle``
    clock, unless one of the two is named: ``exec_timeout: 90s`` alone lets a silent handler answer
    after 80 s.

    Raises:
        InvalidDeployment: an unknown ``com.tailrace.*`` key, or a value the key does not take.
    """
    known = {option.key: option for option in OPTIONS}
    for key in labels:
        if key in known:
            raise InvalidDeployment(
                f"'{key}' is an annotation, not a label", hint="Move it below annotations:."
            )
    for key in [*annotations, *labels]:
        if key.startswith(PREFIX) and key not in known:
            near = nearest(key, known)
            hint = f"Did you mean '{near}'?" if near else f"Known keys: {', '.join(sorted(known))}."
            raise InvalidDeployment(f"annotation '{key}' is not one Tailrace knows", hint=hint)
    worker = _choice(WORKER, annotations)
    dialect = _choice(DIALECT, annotations)
    early = _choice(EARLY_HEAD, annotations)
    start_s, idle_s, total_s = _clocks(annotations, env)
    return FunctionOptions(
        worker=cast("Worker", worker),
        dialect=cast("DialectName", dialect) if dialect else None,
        **_replicas(labels),
        heartbeat_s=_heartbeat(annotations),
        has_early_head=early == "on" if early else None,
        has_status=_choice(STATUS, annotations) == "on",
        is_recorded=_choice(RECORD, annotations) == "true",
        grace_s=_grace(annotations),
        concurrency=_concurrency(annotations, env),
        schedule=_schedule(annotations),
        retries=read_retries(
            annotations, after_first_byte=_choice(RETRY_AFTER_FIRST_BYTE, annotations) == "true"
        ),
        may_overlap=_choice(CRON_OVERLAP, annotations) == "allow",
        is_queued_by_clock=_choice(CRON_ASYNC, annotations) == "true",
        queue_s=_clock(TIMEOUT_QUEUE, annotations),
        start_s=start_s,
        idle_s=idle_s,
        total_s=total_s,
        read_s=_openfaas_duration("read_timeout", env),
    )


def _choice(option: Option, annotations: Mapping[str, str]) -> str:
    value = annotations.get(option.key, option.default)
    if value != option.default and value not in option.choices:
        raise InvalidDeployment(
            f"annotation '{option.key}: {value}' is not one of {', '.join(option.choices)}"
        )
    return value


def _clocks(
    annotations: Mapping[str, str], env: Mapping[str, str]
) -> tuple[float | None, float | None, float | None]:
    """Start, idle and total in seconds; None where nothing is said."""
    start_s, idle_s = _clock(TIMEOUT_START, annotations), _clock(TIMEOUT_IDLE, annotations)
    total_s = _clock(TIMEOUT_TOTAL, annotations)
    if total_s is not None:
        return start_s, idle_s, total_s
    total_s = _openfaas_duration("exec_timeout", env)
    if total_s is None:
        total_s = _openfaas_duration("write_timeout", env)
    if total_s is not None and start_s is None and idle_s is None:
        return total_s, total_s, total_s
    return start_s, idle_s, total_s


def _clock(option: Option, annotations: Mapping[str, str]) -> float | None:
    text = annotations.get(option.key)
    if text is None:
        return None
    seconds = 0.0 if text == "none" else parse_duration(text)
    if seconds is None or seconds > _A_DAY_S:
        raise InvalidDeployment(
            f"annotation '{option.key}: {text[:40]}' is not a duration of at most 24h",
            hint="Write it as 90s, 1m30s or 500ms; 0 or none means no limit.",
        )
    return seconds


def _openfaas_duration(key: str, env: Mapping[str, str]) -> float | None:
    """One of OpenFaaS's timeouts: a Go duration, or a whole number of seconds."""
    text = env.get(key, "")
    if not text:
        return None
    is_seconds = text.isascii() and text.isdigit() and len(text) <= 9
    seconds = float(text) if is_seconds else parse_duration(text)
    if seconds is None or seconds > _A_DAY_S:
        raise InvalidDeployment(
            f"environment '{key}: {text[:40]}' is not a duration of at most 24h",
            hint="Write it as 90s, 1m30s or a whole number of seconds; 0 means no limit.",
        )
    return seconds


def _heartbeat(annotations: Mapping[str, str]) -> float | None:
    text = annotations.get(HEARTBEAT.key)
    if text is None or text == "off":
        return None if text is None else 0.0
    seconds = parse_duration(text)
    if seconds is None or not 0.05 <= seconds <= 3600:
        raise InvalidDeployment(
            f"annotation '{HEARTBEAT.key}: {text[:40]}' is not a duration from 50ms to 1h, or off"
        )
    return seconds


def parse_grace(text: str) -> float | None:
    """Seconds that ``cancel`` (0), ``continue`` (infinite) or ``grace:DURATION`` mean; None: it is none."""
    if text in ("cancel", "continue"):
        return 0.0 if text == "cancel" else math.inf
    kind, _, rest = text.partition(":")
    seconds = parse_duration(rest) if kind == "grace" else None
    return seconds if seconds is not None and 0 < seconds <= _A_DAY_S else None


def _grace(annotations: Mapping[str, str]) -> float | None:
    text = annotations.get(ON_DISCONNECT.key)
    if text is None:
        return None
    grace_s = parse_grace(text)
    if grace_s is None:
        raise InvalidDeployment(
            f"annotation '{ON_DISCONNECT.key}: {text[:40]}' is none of cancel, continue, grace:DURATION",
            hint="Write it as grace:30s; at most 24h.",
        )
    return grace_s


def _schedule(annotations: Mapping[str, str]) -> Schedule | None:
    """When it is called by itself: ``topic: cron-function`` and ``schedule``. Source: contract 10."""
    if not has_topic(annotations):
        return None
    if "schedule" not in annotations:
        raise InvalidDeployment(
            "annotation 'topic: cron-function' says that the clock calls it, no annotation 'schedule' when",
            hint="Add one, such as schedule: '*/5 * * * *', or '@every 1m'.",
        )
    try:
        return parse_schedule(annotations["schedule"])
    except ValueError as wrong:
        raise InvalidDeployment(f"annotation 'schedule': {wrong}") from None


def _concurrency(annotations: Mapping[str, str], env: Mapping[str, str]) -> int:
    key, text = f"annotation '{CONCURRENCY.key}", annotations.get(CONCURRENCY.key)
    if text is None:
        key, text = "environment 'max_inflight", env.get("max_inflight") or "0"
    return _whole(text, MAX_CONCURRENCY, key)


def _replicas(labels: Mapping[str, str]) -> _Replicas:
    """What OpenFaaS's labels say of counts. Source: contract section 8."""
    least = _whole(labels.get("com.openfaas.scale.min", "1"), MAX_REPLICAS, "label 'com.openfaas.scale.min")
    # A least of 0: nothing is started before the first call.
    most = _whole(labels.get("com.openfaas.scale.max", "20"), MAX_REPLICAS, "label 'com.openfaas.scale.max")
    if most < least and "com.openfaas.scale.max" in labels:
        raise InvalidDeployment(
            f"label 'com.openfaas.scale.max: {most}' is less than com.openfaas.scale.min, which is {least}"
        )
    factor = _whole(labels.get("com.openfaas.scale.factor", "10"), 100, "label 'com.openfaas.scale.factor")
    return {"min_replicas": least, "max_replicas": max(least, most), "scale_factor": factor}


def _whole(text: str, highest: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > highest:
        raise InvalidDeployment(f"{what}: {text[:40]}' is not a whole number from 0 to {highest}")
    return int(text)
