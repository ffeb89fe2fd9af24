"""Pages of other origins: which may read runs, and what stays closed to them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tailrace.addresses import read_origins
from tests.kit.gateway import running_town

APP = "https://app.example.com"
RUN = "/run/" + "a" * 26
ASYNC = "/async-function/fn"
FRONT = "http://localhost:3000"


def may(url: str, origin: str, path: str, method: str) -> bool:
    """Whether a browser lets a page of this origin send a header of its own, and read the answer and its id.

    Source: fetch.spec.whatwg.org, "CORS-preflight fetch" and "CORS check".
    """
    sent = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    asking = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "last-event-id"}
    question = httpx.options(url + path, headers={**sent, **asking})
    answer = httpx.request(method, url + path, headers=sent)
    return (
        question.is_success
        and method in question.headers.get("access-control-allow-methods", "")
        and "x-call-id" in answer.headers.get("access-control-expose-headers", "")
        and "last-event-id" in question.headers.get("access-control-allow-headers", "")
        and all(
            reply.headers.get("access-control-allow-origin") in (origin, "*") for reply in (question, answer)
        )
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, {FRONT: True, APP: False, "https://localhost.example.com": False}),
        (
            {"cors_origins": f"{APP}:443, http://10.0.0.7:3000"},
            {FRONT: True, APP: True, f"{APP}:8443": False},
        ),
        ({"cors_origins": APP, "auth": "true"}, {FRONT: False, APP: True, "http://app.example.com": False}),
        ({"cors_origins": "*", "auth": "true"}, {FRONT: True, APP: True}),
        ({"auth": "true"}, {FRONT: False, APP: False}),
    ],
)
def test_pages_of_these_origins_may_read_runs(
    tmp_path: Path, flags: dict[str, object], expected: dict[str, bool]
) -> None:
    """And asynchronous calls, errors too; nothing else. Without auth those of this machine may anyway."""
    with running_town(tmp_path, flags=flags) as town:
        for path, method in ((RUN, "GET"), (RUN, "DELETE"), (f"{RUN}/stop", "POST"), (ASYNC, "POST")):
            found = {origin: may(town.url, origin, path, method) for origin in expected}
            assert expected == found, (path, method)
        for path in ("/system/functions", "/runs"):
            assert not any(may(town.url, origin, path, "GET") for origin in expected), path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("*", ("*",)),
        (
            "HTTPS://App.example.com:443,http://a:80, http://[::1]:3000",
            (APP, "http://a", "http://[::1]:3000"),
        ),
    ],
)
def test_origins_are_kept_as_browsers_send_them(text: str, expected: tuple[str, ...]) -> None:
    assert expected == read_origins(text)


@pytest.mark.parametrize(
    "text",
    ["app.example.com", f"{APP}/", "null", "file://", "https://*.example.com", f"{APP}:443:1", "https://"],
)
def test_what_is_no_origin_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"https://app\.example\.com"):
        read_origins(text)
