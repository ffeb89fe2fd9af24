"""What a domain may be, and what cannot go with one."""

from __future__ import annotations

import pytest

from tailrace.errors import InvalidRequest, NotAllowed
from tailrace.front.caddy import check_domain
from tailrace.front.config import Domain
from tailrace.settings import load


@pytest.mark.parametrize(
    ("flags", "error", "reason"),
    [
        ({}, NotAllowed, "without auth"),
        ({"auth": "true", "host": "192.0.2.1"}, NotAllowed, "listens on loopback"),
        ({"auth": "true", "tls_cert": "c.pem"}, InvalidRequest, "--tls-cert and --domain"),
        ({"auth": "true", "fd": "3"}, InvalidRequest, "--fd and --domain"),
    ],
)
def test_what_does_not_go_with_a_domain_is_refused(
    flags: dict[str, str], error: type[Exception], reason: str
) -> None:
    """Nobody deploys from outside without a password, or goes past Caddy."""
    with pytest.raises(error, match=reason):
        check_domain(load({"domain": "api.example.com", **flags}, env={}))


@pytest.mark.parametrize(
    "domain", ["a b", "-a.com", "1.2.3.4", "a.com:", "a.com:99999", "a.com:x", ":80", "*.a.com"]
)
def test_what_is_no_name_is_refused(domain: str) -> None:
    """A host name, with a port at most."""
    with pytest.raises(InvalidRequest, match="host name"):
        load({"domain": domain}, env={})


def test_with_a_domain_only_loopback_speaks_for_clients() -> None:
    """Caddy calls from there; what was trusted stays so."""
    settings = load({"domain": "api.example.com", "trusted_proxies": "10.0.0.0/8"}, env={})

    assert "10.0.0.0/8,127.0.0.0/8,::1/128" == ",".join(str(network) for network in settings.proxies)


@pytest.mark.parametrize(
    ("text", "name", "port", "is_local"),
    [
        ("api.example.com", "api.example.com", None, False),
        ("localhost:0", "localhost", 0, True),
        ("a.LOCALHOST:8443", "a.localhost", 8443, True),
        ("notlocalhost", "notlocalhost", None, False),
    ],
)
def test_a_domain_is_a_name_and_sometimes_a_port(
    text: str, name: str, port: int | None, is_local: bool
) -> None:
    """Names of this machine alone get loopback and a certificate of Caddy's own authority."""
    domain = Domain.parse(load({"domain": text}, env={}).domain)

    assert (name, port, is_local) == (domain.name, domain.port, domain.is_local)
