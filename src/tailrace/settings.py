"""Every setting of the gateway: one row each. Flags, environment, ``--help`` and docs derive from here.

A value comes from the flag, else the environment, else the settings file, else the default, and remembers
which. Garbage is refused with the key, the value and its source; it never falls back to a default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import platformdirs

from tailrace import settingtexts as texts
from tailrace.addresses import (
    EMBEDDED,
    Network,
    read_domain,
    read_host,
    read_nats_urls,
    read_networks,
    read_origins,
    without_password,
)
from tailrace.errors import InvalidRequest, InvalidUsage
from tailrace.names import read_queues
from tailrace.settingsfile import of_file, read_file

LogFormat = Literal["text", "json", "off"]


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its field in `Settings`, how its text is read, its default's text, unit and sentence.

    ``is_live``: a gateway that runs takes a new value at a reload; else it needs a restart.
    """

    name: str
    parse: Callable[[str], Any]
    default: str
    unit: str
    sentence: str
    is_live: bool = False

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return f"TAILRACE_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The command line option that sets it, where a command offers it."""
        return f"--{self.name.replace('_', '-')}"


MIB = 1024 * 1024

ROWS: tuple[Row, ...] = (
    Row(
        "host", read_host, "127.0.0.1", "",
        "Address the gateway listens on; other than loopback needs auth.",
    ),
    Row("port", texts.whole(0, 65535), "8080", "", "Port the gateway listens on; 0 takes a free one."),
    Row("auth", texts.flag, "false", "", "Ask for the admin's password everywhere but on functions."),
    Row(
        "secret_mount_path", texts.path, "/run/secrets", "",
        "Folder whose files basic-auth-user and basic-auth-password are the admin's; both or neither.",
    ),
    Row(
        "state_dir", texts.path, str(platformdirs.user_data_path("tailrace")), "",
        "Folder for bundles, environments, secrets and deployments; one gateway owns it at a time.",
    ),
    Row(
        "body_limit", texts.whole(1024, 1 << 40), str(1024 * MIB), "bytes",
        "Largest request body; over it: 413.", is_live=True,
    ),
    Row(
        "bundle_limit", texts.whole(1024, 1 << 32), str(64 * MIB), "bytes",
        "Largest handler folder, packed.",
    ),
    Row(
        "build_limit", texts.whole(1024, 1 << 34), str(256 * MIB), "bytes",
        "Largest build context that the remote builder takes, as a tar and unpacked.",
    ),
    Row(
        "payload_secret_file", texts.file, "", "",
        "File with the secret that signs builds (faas-cli --payload-secret); without it there is no builder.",
    ),
    Row(
        "queue_timeout_s", texts.seconds(0.01, 3600), "30", "seconds",
        "How long a call may wait for a free place on a ready replica; over it: 503.", is_live=True,
    ),
    Row(
        "start_timeout_s", texts.seconds(0, 86400), "60", "seconds",
        "How long a function may take to its first byte; over it: 504. 0: no limit.", is_live=True,
    ),
    Row(
        "idle_timeout_s", texts.seconds(0, 86400), "60", "seconds",
        "How long a function may be silent between two bytes of its answer. 0: no limit.", is_live=True,
    ),
    Row(
        "total_timeout_s", texts.seconds(0, 86400), "0", "seconds",
        "How long an answer may take from the moment a replica takes the call. 0: no limit.", is_live=True,
    ),
    Row(
        "read_timeout_s", texts.seconds(0, 86400), "0", "seconds",
        "How long a client may take to send a request's body; over it: 408. 0: only progress is asked for.",
        is_live=True,
    ),
    Row(
        "heartbeat_s", texts.seconds(0, 3600), "15", "seconds",
        "Silence after which an event stream gets a comment, so that no proxy takes it for dead. 0: never.",
        is_live=True,
    ),
    Row(
        "early_head_s", texts.seconds(0, 3600), "5", "seconds",
        "How long the head of an event stream is held for a real status, at most.", is_live=True,
    ),
    Row(
        "queue_limit", texts.whole(0, 1_000_000), "64", "calls",
        "Calls that may wait for one function; one more: 429 with Retry-After.", is_live=True,
    ),
    Row(
        "load_timeout_s", texts.seconds(1, 3600), "120", "seconds",
        "How long a replica may take to load its handler before it is killed.",
    ),
    Row(
        "header_timeout_s", texts.seconds(0.01, 3600), "15", "seconds",
        "How long a client may take to send a request's head; over it: 408 and the connection closes.",
        is_live=True,
    ),
    Row(
        "keep_alive_timeout_s", texts.seconds(0.01, 86400), "75", "seconds",
        "How long a client's connection may be idle between two requests.", is_live=True,
    ),
    Row(
        "stall_timeout_s", texts.seconds(0.01, 86400), "30", "seconds",
        "How long a client may take nothing of what is sent to it, or send nothing of a body it began.",
        is_live=True,
    ),
    Row(
        "connection_limit", texts.whole(1, 1_000_000), "20000", "connections",
        "Clients connected at once; the one that is idle longest makes room for one more, else it gets 503.",
        is_live=True,
    ),
    Row(
        "connection_requests", texts.whole(1, 1 << 40), "100000", "requests",
        "Requests answered on one connection before it is closed.", is_live=True,
    ),
    Row(
        "buffer_limit", texts.whole(MIB, 1 << 40), str(256 * MIB), "bytes",
        "Bytes held for all calls together, beyond which new calls get 503.", is_live=True,
    ),
    Row(
        "drain_s", texts.seconds(0, 86400), "30", "seconds",
        "How long running calls may finish after SIGTERM before they are ended.", is_live=True,
    ),
    Row(
        "run_keep_s", texts.seconds(1, 604800), "600", "seconds",
        "How long the events of a recorded run are kept after its end.", is_live=True,
    ),
    Row(
        "run_async_keep_s", texts.seconds(1, 604800), "86400", "seconds",
        "How long those of a run of the queue are kept after its end.", is_live=True,
    ),
    Row(
        "nats_url", read_nats_urls, EMBEDDED, "",
        "Where NATS with JetStream (2.11 or newer) answers, commas between servers; `embedded`: the "
        "gateway runs one; `off`: no runs are kept, and no asynchronous calls taken.",
    ),
    Row("nats_creds", texts.file, "", "", "Credentials file for that NATS."),
    Row(
        "nats_sync_s", texts.seconds(0, 3600), "2", "seconds",
        "What the embedded NATS has accepted survives a loss of power after so long; 0: at once, and slower.",
    ),
    Row(
        "async_body_limit", texts.whole(1024, 1 << 30), str(8 * MIB), "bytes",
        "Largest body of an asynchronous call; over it: 413.",
    ),
    Row(
        "async_max_bytes", texts.whole(16 * MIB, 1 << 44), str(1024 * MIB), "bytes",
        "What asynchronous calls that wait may hold, and once more their large bodies; over it: 503.",
    ),
    Row(
        "async_queues", read_queues, "all", "",
        "Queues whose calls this process makes, with commas; `all`, or `off`: none, others do.",
    ),
    Row(
        "async_concurrency", texts.whole(1, 10_000), "50", "calls",
        "Asynchronous calls of one function that this process makes at once, at most.", is_live=True,
    ),
    Row(
        "async_lease_s", texts.seconds(0.5, 3600), "10", "seconds",
        "A call whose worker gives no sign of life for so long is handed out again.",
    ),
    Row(
        "async_retry_attempts", texts.whole(1, 10_000), "100", "tries",
        "How often an asynchronous call is tried before it is a dead letter.", is_live=True,
    ),
    Row(
        "async_retry_min_wait_s", texts.seconds(0.01, 86400), "10", "seconds",
        "Most that is waited before the second try; it doubles from try to try.", is_live=True,
    ),
    Row(
        "async_retry_max_wait_s", texts.seconds(0.01, 86400), "120", "seconds",
        "Most that is waited between two tries, unless `Retry-After` asks for more.", is_live=True,
    ),
    Row(
        "async_dead_keep_s", texts.seconds(60, 31536000), "604800", "seconds",
        "How long dead letters are kept.",
    ),
    Row(
        "callback_allow_private", texts.flag, "false", "",
        "Deliver results to addresses of this machine and of private networks as well.",
    ),
    Row(
        "callback_patience_s", texts.seconds(1, 604800), "3600", "seconds",
        "How long the delivery of a result is tried before it is a dead letter.", is_live=True,
    ),
    Row(
        "callback_secret_file", texts.file, "", "",
        "File with the secret that signs results; without it one is made in the state directory.",
    ),
    Row(
        "runs_copies", texts.whole(1, 5), "1", "copies",
        "How many servers of a NATS cluster keep each event and each asynchronous call.",
    ),
    Row(
        "runs_max_age_s", texts.seconds(60, 2592000), "172800", "seconds",
        "Backstop: events and records of runs that are older are deleted, whatever was meant to be kept.",
    ),
    Row(
        "runs_max_bytes", texts.whole(16 * MIB, 1 << 44), str(1024 * MIB), "bytes",
        "Backstop: the oldest events of runs are deleted beyond this.",
    ),
    Row(
        "log_format", texts.one_of("text", "json", "off"), "text", "",
        "The line per call: text, json or off.", is_live=True,
    ),
    Row(
        "metrics_port", texts.metrics_port, "8082", "",
        "Port of the metrics on 127.0.0.1; 0: a free one; off: none.",
    ),
    Row(
        "trusted_proxies", read_networks, "", "",
        "Addresses or networks, with commas, whose X-Forwarded-For tells who the client is.", is_live=True,
    ),
    Row(
        "cors_origins", read_origins, "", "",
        "Origins of web pages, with commas, that may read and stop runs and use /async-function/; *: all.",
    ),
    Row("tls_cert", texts.file, "", "", "Certificate chain (PEM) to answer HTTPS with; needs tls_key."),
    Row("tls_key", texts.file, "", "", "Private key (PEM) of tls_cert."),
    Row(
        "domain", read_domain, "", "",
        "Name to answer HTTPS for with certificates made automatically (tailrace[tls]); needs auth.",
    ),
    Row(
        "fd", texts.whole_or_none(0, 1_000_000), "", "",
        "Descriptor of a listening socket that was handed in, instead of host and port.",
    ),
    Row("log_lines", texts.whole(100, 1_000_000), "5000", "lines", "Log lines kept in memory per function."),
    Row(
        "settings", texts.file, "", "",
        "TOML file of settings by name; flag and environment win over it. A reload reads it again.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings of one gateway. Build it with `load`."""

    host: str
    port: int
    auth: bool
    secret_mount_path: Path
    state_dir: Path
    body_limit: int
    bundle_limit: int
    build_limit: int
    payload_secret_file: Path | None
    queue_timeout_s: float
    start_timeout_s: float
    idle_timeout_s: float
    total_timeout_s: float
    read_timeout_s: float
    heartbeat_s: float
    early_head_s: float
    queue_limit: int
    load_timeout_s: float
    header_timeout_s: float
    keep_alive_timeout_s: float
    stall_timeout_s: float
    connection_limit: int
    connection_requests: int
    buffer_limit: int
    drain_s: float
    run_keep_s: float
    run_async_keep_s: float
    nats_url: tuple[str, ...]
    nats_creds: Path | None
    nats_sync_s: float
    async_body_limit: int
    async_max_bytes: int
    async_queues: tuple[str, ...]
    async_concurrency: int
    async_lease_s: float
    async_retry_attempts: int
    async_retry_min_wait_s: float
    async_retry_max_wait_s: float
    async_dead_keep_s: float
    callback_allow_private: bool
    callback_patience_s: float
    callback_secret_file: Path | None
    runs_copies: int
    runs_max_age_s: float
    runs_max_bytes: int
    log_format: LogFormat
    metrics_port: int | None
    trusted_proxies: tuple[Network, ...]
    cors_origins: tuple[str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    domain: str
    fd: int | None
    log_lines: int
    settings: Path | None
    # Where each value came from: "flag", "environment", "file" or "default", by field name.
    sources: Mapping[str, str]

    @property
    def proxies(self) -> tuple[Network, ...]:
        """Who may say for whom it calls: the trusted proxies, and with a domain Caddy, from loopback."""
        return (
            (*self.trusted_proxies, *read_networks("127.0.0.0/8,::1"))
            if self.domain
            else self.trusted_proxies
        )


def load(flags: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (None values mean: not given), the environment, the settings file, and defaults.

    Raises:
        InvalidRequest: a value does not parse, or the file is none; the text names key, value, source and
            what is expected.
    """
    environ = os.environ if env is None else env
    given = {k: str(v) for k, v in (flags or {}).items() if v is not None}
    assert set(given) <= {row.name for row in ROWS}, "a flag without a row"
    file = texts.file(given.get("settings", environ.get("TAILRACE_SETTINGS", "")))
    in_file = read_file(file, [row.name for row in ROWS if row.name != "settings"]) if file else {}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for row in ROWS:
        if row.name in given:
            value, source = _parse(row, given[row.name], row.flag), "flag"
        elif row.env in environ:
            value, source = _parse(row, environ[row.env], row.env), "environment"
        elif file and row.name in in_file:
            value, source = of_file(row.name, row.parse, in_file[row.name], file), "file"
        else:
            value, source = row.parse(row.default), "default"
        values[row.name], sources[row.name] = value, source
    return Settings(**values, sources=sources)


def _parse(row: Row, text: str, key: str) -> object:
    try:
        return row.parse(text)
    except ValueError as expected:
        kind = InvalidUsage if key.startswith("--") else InvalidRequest
        raise kind(f"{key}={without_password(text)} is not valid: expected {expected}") from None


assert {row.name for row in ROWS} == {f.name for f in fields(Settings)} - {"sources"}
