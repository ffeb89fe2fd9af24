"""Who may talk to the control plane: a hostile web page and a rebound DNS name may not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from tailrace.errors import NotAllowed
from tailrace.gateway import check_exposure
from tailrace.settings import load
from tests.kit.gateway import Town, running_town


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/system/functions", "/healthz", "/", "/system/secrets"])
def test_a_web_page_and_a_rebound_name_get_403(town: Town, headers: dict[str, str], path: str) -> None:
    """Without auth only this machine's own names, from no foreign page, reach the control plane."""
    with town.http() as http:
        reply = http.get(path, headers=headers)

    assert reply.status_code == 403
    assert "--auth" in reply.text


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:8080", "LOCALHOST:99"])
def test_this_machines_own_names_are_answered(town: Town, host: str) -> None:
    """Any port, any case; its own pages too."""
    with town.http() as http:
        headers = {"Host": host, "Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-origin"}
        assert http.get("/system/functions", headers=headers).status_code == 200


def test_functions_are_open_to_every_host_and_origin(town: Town) -> None:
    """The data plane is for everybody: 404 here means it was asked."""
    with town.http() as http:
        reply = http.get("/function/none", headers={"Host": "evil.example", "Origin": "https://evil.example"})

    assert reply.status_code == 404


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_bodies_a_web_page_can_send_are_not_parsed(town: Town, content_type: str) -> None:
    """A form or text/plain needs no preflight, so JSON in it is refused."""
    body = json.dumps({"service": "x", "image": "y"})
    with town.http() as http:
        reply = http.post("/system/functions", content=body, headers={"Content-Type": content_type})

    assert reply.status_code == 415


def test_a_bundle_is_refused_when_its_digest_differs(town: Town) -> None:
    """What arrives must be what was announced; nothing is kept of it."""
    with town.http() as http:
        digest = hashlib.sha256(b"other").hexdigest()
        reply = http.put(f"/system/bundles/{digest}", params={"image": "x"}, content=b"bytes")
        deploy = http.post("/system/functions", json={"service": "x", "image": "x"})

    assert reply.status_code == 400
    assert "digest" in reply.text
    assert deploy.status_code == 400
    assert "tailrace build -f stack.yaml" in deploy.text


@pytest.mark.slow
def test_with_auth_only_the_admin_is_answered(tmp_path: Path) -> None:
    """Basic admin:<password> or this process's token, from no other page; health and functions stay open."""
    with running_town(tmp_path, flags={"auth": "true"}) as town:
        password = town.gateway.new_password
        assert password is not None
        with httpx.Client(base_url=town.url) as http:
            refused = http.get("/system/functions")
            wrong = http.get("/system/functions", auth=("admin", "wrong"))
            right = http.get("/system/functions", auth=("admin", password))
            empty = http.get("/system/functions", headers={"Authorization": "Bearer"})
            pages = [
                http.post("/system/secrets", json={"name": "x"}, auth=("admin", password), headers=headers)
                for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"})
            ]
            cli = http.post("/system/secrets", json={"name": "x"}, auth=("admin", password))
            health = http.get("/healthz")
            function = http.get("/function/none")
        with town.http() as own:
            token = own.get("/system/functions")
        kept = (tmp_path / "state" / "admin.json").read_text()

    assert [refused.status_code, wrong.status_code, empty.status_code] == [401, 401, 401]
    assert [403, 403, 202] == [*(page.status_code for page in pages), cli.status_code]
    assert refused.headers["www-authenticate"] == 'Basic realm="Restricted"'
    assert refused.text == "invalid credentials"
    assert [right.status_code, token.status_code, health.status_code] == [200, 200, 200]
    assert function.status_code == 404
    assert password not in kept
    with running_town(tmp_path / "again", flags={"auth": "true", "state_dir": tmp_path / "state"}) as town:
        assert town.gateway.new_password is None


def test_another_address_than_loopback_needs_auth() -> None:
    """Nobody opens a machine to the network by an option alone."""
    with pytest.raises(NotAllowed, match="without auth"):
        check_exposure(load(env={}), "0.0.0.0")  # noqa: S104
    check_exposure(load({"auth": "true"}, env={}), "0.0.0.0")  # noqa: S104
    check_exposure(load(env={}), "::1")
