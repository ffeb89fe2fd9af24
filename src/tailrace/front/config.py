"""Caddy's configuration: a relay that holds nothing back. Pure.

Source: https://caddyserver.com/docs/json/ (2.11).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What Caddy may hold of a body of a declared length. Bodies without one, every stream's, are flushed at
# each write. Not -1: with that Caddy lets a request run on when its client has left.
# Source: https://github.com/caddyserver/caddy/pull/4952
_FLUSH = "1ms"
# Heads beyond this are refused by the gateway with 431 anyway (64 KiB); Caddy adds lines of its own.
_HEAD_BYTES = 80 * 1024
# At its end Caddy waits so long for what still runs; the gateway has drained by then.
GRACE_S = 2


@dataclass(frozen=True, slots=True)
class Domain:
    """The name that clients ask for, and the port where it is not 443."""

    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Domain:
        """``NAME`` or ``NAME:PORT``, as the setting ``domain`` has it."""
        name, _, port = text.partition(":")
        return cls(name, int(port) if port else None)

    @property
    def is_local(self) -> bool:
        """Whether it always means this machine, to every program on it. Source: RFC 6761 section 6.3."""
        return self.name == "localhost" or self.name.endswith(".localhost")


@dataclass(frozen=True, slots=True)
class Plan:
    """What Caddy is to do.

    Attributes:
        upstream: The gateway's own address, ``host:port``.
        folder: Where certificates and keys are kept.
        https_fd: A socket that listens, inherited. Ours, so that clients can connect while Caddy starts anew.
        redirect_fd: One for plain HTTP, answered with redirects; None: no such listener.
        header_timeout_s: How long a client may take to send a request's head.
        idle_s: How long a connection to the gateway is kept idle; shorter than the gateway keeps it, or a
            call could go out on one that is just being closed.
    """

    domain: Domain
    upstream: str
    folder: Path
    https_fd: int
    redirect_fd: int | None
    header_timeout_s: float
    idle_s: float


def caddy_config(plan: Plan) -> dict[str, object]:
    """The configuration as Caddy's JSON has it."""
    servers = {"https": _https(plan)}
    if plan.redirect_fd is not None:
        servers["redirect"] = _redirect(plan)
    apps: dict[str, object] = {
        "http": {"grace_period": f"{GRACE_S}s", "servers": servers},
        # Its own certificate authority is for local names; who trusts it is for people to decide.
        "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
    }
    if plan.domain.is_local:
        policy = {"subjects": [plan.domain.name], "issuers": [{"module": "internal"}]}
        apps["tls"] = {"automation": {"policies": [policy]}}
    log = {
        "level": "INFO",
        "writer": {"output": "stderr"},
        "encoder": {"format": "json"},
        # A call that was cut has its line in the gateway's own log.
        "exclude": ["admin", "http.handlers.reverse_proxy", "http.log.error"],
    }
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": log}},
        "storage": {"module": "file_system", "root": str(plan.folder)},
        "apps": apps,
    }


def _https(plan: Plan) -> dict[str, object]:
    misdirected = {
        "handler": "static_response",
        "status_code": 421,
        "headers": {"Content-Type": ["text/plain; charset=utf-8"]},
        "body": f"this server answers for {plan.domain.name}\n",
        "close": True,
    }
    return {
        **_listener(plan, plan.https_fd),
        "protocols": ["h1", "h2"],
        # A function may answer while its caller still sends. (HTTP/2 always allows that.)
        "enable_full_duplex": True,
        "automatic_https": {"disable_redirects": True},
        "tls_connection_policies": [{}],
        "routes": [
            {"match": [{"host": [plan.domain.name]}], "handle": [_relay(plan)], "terminal": True},
            {"handle": [misdirected]},
        ],
        "errors": {"routes": [_stopping()]},
    }


def _stopping() -> dict[str, object]:
    """A gateway that drains accepts nobody, so no handler ran: 503, not Caddy's empty 502."""
    is_refused = "{http.error.status_code} == 502 && {http.error.message}.contains('connection refused')"
    unavailable = {
        "handler": "static_response",
        "status_code": 503,
        "headers": {"Content-Type": ["text/plain; charset=utf-8"], "Retry-After": ["1"]},
        "body": "the gateway is being stopped\n",
    }
    return {"match": [{"expression": is_refused}], "handle": [unavailable]}


def _relay(plan: Plan) -> dict[str, object]:
    # Caddy's defaults for the rest: no limit of time on an answer, requests not buffered, no second try,
    # X-Forwarded-For, -Proto and -Host written anew.
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": plan.upstream}],
        "flush_interval": _FLUSH,
        "transport": {
            "protocol": "http",
            "versions": ["1.1"],
            "compression": False,
            "keep_alive": {
                "enabled": True,
                "idle_timeout": f"{plan.idle_s:g}s",
                "max_idle_conns_per_host": 256,
            },
        },
    }


def _redirect(plan: Plan) -> dict[str, object]:
    to_https = {
        "handler": "static_response",
        "status_code": 308,
        "headers": {"Location": [f"https://{plan.domain.name}{{http.request.uri}}"]},
        "close": True,
    }
    return {
        **_listener(plan, plan.redirect_fd),
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "routes": [{"handle": [to_https]}],
    }


def _listener(plan: Plan, fd: int | None) -> dict[str, object]:
    return {
        "listen": [f"fd/{fd}"],
        "read_header_timeout": f"{plan.header_timeout_s:g}s",
        "max_header_bytes": _HEAD_BYTES,
    }
