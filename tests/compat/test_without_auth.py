"""`tailrace up` on this machine asks for no password; `faas-cli` sends what it has all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat.table.asked import PLAIN, SDK
from tests.kit.gateway import Town, running_town
from tests.kit.replay import send

pytestmark = pytest.mark.slow
# What it has without a login, from a login elsewhere, and from one that is out of date.
SENT = {"nobody": "Bearer ", "a token": "Bearer JWT.TOKEN.X", "a password": "Basic YWRtaW46YmFk"}
LOOKS = (
    "/system/functions", "/system/functions?namespace=staging-fn", "/system/info", "/system/namespaces",
    "/system/secrets", "/healthz",
)  # fmt: skip


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("open")) as town:
        yield town


@pytest.mark.parametrize("path", LOOKS)
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT.keys())
def test_whatever_credentials_are_sent_everybody_is_answered(town: Town, sent: str, path: str) -> None:
    """A login too: faas-cli then keeps any password, and is not asked for it."""
    reply = send(town.port, f"GET {path}", {**PLAIN, "Authorization": sent})

    assert 200 == reply.status, reply


def test_what_changes_something_is_answered_too(town: Town) -> None:
    headers = {**SDK, "Content-Type": "application/json", "Authorization": "Bearer "}
    body = b'{"name":"open","labels":{"openfaas":"1"}}'

    replies = [
        send(town.port, "POST /system/namespace/", headers, body),
        send(town.port, "DELETE /system/namespace/open", headers, body),
    ]

    assert [201, 202] == [reply.status for reply in replies]
