"""What of-watchdog's environment variables say, checked: garbage is refused, never taken for a default.

Source: contract section 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast
from urllib.parse import urlsplit

Mode = Literal["http", "streaming", "serializing", "static"]
MODES = ("http", "streaming", "serializing", "static")
DEFAULT_S = 30.0

_T = TypeVar("_T")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|ns|h|m|s)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Config:
    """How functions are run and served.

    Attributes:
        fprocess: The command, split at single blanks.
        upstream_port: Where the process of mode ``http`` listens on loopback; 0 in other modes.
        upstream_path: What its URL puts before every path.
        exec_s: Seconds a call may take; 0: no limit. ``X-Timeout`` shortens it.
        write_s: Seconds that running calls may take after SIGTERM.
        healthcheck_s: Seconds between not being ready any more and accepting no more.
        max_inflight: Calls at once; 0: no limit.
        is_buffering: Wait for the whole request before the process is asked.
    """

    mode: Mode
    fprocess: tuple[str, ...] = ()
    upstream_port: int = 0
    upstream_path: str = ""
    host: str = "0.0.0.0"  # noqa: S104  # in an image the port is the function's only door
    port: int = 8080
    metrics_port: int = 8081
    read_s: float = DEFAULT_S
    write_s: float = DEFAULT_S
    exec_s: float = DEFAULT_S
    healthcheck_s: float = DEFAULT_S
    content_type: str = "application/octet-stream"
    is_buffering: bool = False
    max_inflight: int = 0
    prefix_logs: bool = True
    log_buffer_size: int = 65536
    log_call_id: bool = False
    ready_path: str = ""
    static_path: str = "/home/app/public"
    suppress_lock: bool = False


def read_config(env: Mapping[str, str]) -> Config:
    """The config that an environment describes.

    Raises:
        ValueError: a variable is missing or is not what it takes; the text says which and what it takes.
    """
    read = _Reader(env)
    mode = read("mode", _one_of(MODES), "streaming")
    command = env.get("function_process") or env.get("fprocess") or ""
    if not command.strip() and mode != "static":
        raise ValueError(
            'provide a "function_process" or "fprocess" environmental variable for your function'
        )
    if read("jwt_auth", _flag, False):
        raise ValueError("jwt_auth=true: tokens are not checked here; protect the function at the gateway")
    port, path = _upstream(env) if mode == "http" else (0, "")
    write_s = read("write_timeout", _duration, DEFAULT_S)
    if not write_s:
        raise ValueError("write_timeout=0: a duration over 0 is expected, such as 30s")
    return Config(
        mode=cast("Mode", mode),
        fprocess=tuple(part for part in command.split(" ") if part),
        upstream_port=port,
        upstream_path=path,
        host=env.get("host") or "0.0.0.0",  # noqa: S104  # see above
        port=read("port", _whole(0, 65535), 8080),
        metrics_port=read("metrics_port", _whole(0, 65535), 8081),
        read_s=read("read_timeout", _duration, DEFAULT_S),
        write_s=write_s,
        exec_s=read("exec_timeout", _duration, DEFAULT_S),
        healthcheck_s=read("healthcheck_interval", _duration, write_s),
        content_type=env.get("content_type") or "application/octet-stream",
        is_buffering=read("http_buffer_req_body", _flag, read("buffer_http", _flag, False)),
        max_inflight=read("max_inflight", _whole(0, 1_000_000), 0),
        prefix_logs=read("prefix_logs", _flag, True),
        log_buffer_size=read("log_buffer_size", _whole(-1, 1 << 30), 65536),
        log_call_id=read("log_callid", _flag, read("log_call_id", _flag, False)),
        ready_path=env.get("ready_path", ""),
        static_path=env.get("static_path") or "/home/app/public",
        suppress_lock=read("suppress_lock", _flag, False),
    )


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (``1m30s``) or of a whole number of seconds.

    Raises:
        ValueError: it is neither.
    """
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("a duration such as 30s or 1m30s, or a whole number of seconds")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


class _Reader:
    """Reads variables; an empty one counts as not set."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def __call__(self, key: str, parse: Callable[[str], _T], default: _T) -> _T:
        text = self._env.get(key, "")
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as expected:
            raise ValueError(f"{key}={text[:80]}: {expected} is expected") from None


_duration = parse_duration


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return parse


def _upstream(env: Mapping[str, str]) -> tuple[int, str]:
    """Port and path of the process's own URL."""
    url = env.get("http_upstream_url") or env.get("upstream_url") or ""
    expected = "upstream_url, such as http://127.0.0.1:3000, is expected in mode http"
    if not url:
        raise ValueError(expected)
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise ValueError(f"upstream_url={url[:80]}: {expected}") from None
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1", "0.0.0.0"):  # noqa: S104  # compared
        raise ValueError(f"upstream_url={url[:80]}: {expected}; it is a process on this machine")
    return port, parts.path.rstrip("/")
