"""Web pages that a browser shows beside the gateway: they may not use the password that it remembers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.kit.gateway import running_town

# As a browser at http://HOST sends them; {host} is the gateway's own name and port.
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site", "Origin": "http://{host}"},
    {"Sec-Fetch-Site": "new-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://{host}.evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "null"},
    {"Origin": "{host}"},
]
OWN = [
    {},  # faas-cli, curl
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://{host}"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://{host}"},
    {"Origin": "https://{host}"},  # before a proxy that has the certificate
    {"Host": "gw.example", "Origin": "https://gw.example:443"},
    {"Host": "GW.example:80", "Origin": "http://gw.example"},
    # A proxy changed Host; the browser knows better.
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://faas.example"},
]
SECRET = {"name": "planted", "value": "x"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client with the admin's password, as a browser has it."""
    with running_town(tmp_path_factory.mktemp("pages"), flags={"auth": True}) as town:
        password = town.gateway.new_password
        assert password is not None
        with httpx.Client(base_url=town.url, auth=("admin", password)) as http:
            yield http


def meant(headers: dict[str, str], http: httpx.Client) -> dict[str, str]:
    host = http.base_url.netloc.decode()
    return {name: value.format(host=host) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN, ids=repr)
def test_another_page_changes_nothing_with_the_password_that_a_browser_keeps(
    admin: httpx.Client, headers: dict[str, str]
) -> None:
    """By any method; nothing of it takes effect, and reading, whose answer no page sees, goes on."""
    theirs = meant(headers, admin)
    replies = [
        admin.post("/system/secrets", json=SECRET, headers=theirs),
        admin.put("/system/secrets", json=SECRET, headers=theirs),
        admin.request("DELETE", "/system/functions", json={"functionName": "a"}, headers=theirs),
        admin.post("/system/scale-function/a", json={"serviceName": "a", "replicas": 0}, headers=theirs),
        admin.request("PATCH", "/system/none", headers=theirs),
    ]
    reads = [admin.get("/system/secrets", headers=theirs), admin.head("/system/secrets", headers=theirs)]

    assert [403] * len(replies) == [reply.status_code for reply in replies]
    assert "page" in replies[0].text
    assert [200, 200] == [reply.status_code for reply in reads]
    assert [] == reads[0].json()


@pytest.mark.parametrize("headers", OWN, ids=repr)
def test_the_gateway_s_own_page_and_clients_that_are_no_browsers_are_answered(
    admin: httpx.Client, headers: dict[str, str]
) -> None:
    """404: they were asked."""
    reply = admin.put("/system/secrets", json=SECRET, headers=meant(headers, admin))

    assert 404 == reply.status_code


def test_another_page_cannot_make_its_visitor_s_address_wait(admin: httpx.Client) -> None:
    """Its guesses are no wrong passwords: they are not looked at."""
    guesses = [
        admin.post("/system/functions", headers={"Origin": "null"}, auth=("admin", f"guess-{n}"))
        for n in range(20)
    ]

    assert {403} == {reply.status_code for reply in guesses}
    assert 200 == admin.get("/system/functions").status_code


def test_routes_that_ask_for_no_password_are_open_to_every_page(admin: httpx.Client) -> None:
    """There is none to abuse: functions, and runs by their id. Neither is there, which was looked up."""
    theirs = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}

    assert 404 == admin.post("/function/none", headers=theirs).status_code
    assert admin.post("/run/none/stop", headers=theirs).status_code in (404, 503)
