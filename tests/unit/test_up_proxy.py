"""A proxy in our environment never stands between a function and the model beside it."""

from __future__ import annotations

import pytest

from tailrace.cli.commands.up import direct_to_loopback

LOOPBACK = "127.0.0.1,localhost,::1"


@pytest.mark.parametrize(
    ("env", "direct"),
    [
        ({}, None),
        ({"NO_PROXY": "a.example"}, None),
        ({"HTTP_PROXY": "http://proxy:1"}, LOOPBACK),
        ({"https_proxy": "http://proxy:1", "no_proxy": "a.example"}, f"a.example,{LOOPBACK}"),
        ({"ALL_PROXY": "http://proxy:1", "NO_PROXY": "*"}, "*"),
    ],
)
def test_loopback_goes_past_the_proxy(env: dict[str, str], direct: str | None) -> None:
    """Our own exceptions stay; nothing is set where there is no proxy."""
    expected = {} if direct is None else {"NO_PROXY": direct, "no_proxy": direct}

    assert expected == direct_to_loopback(env)
