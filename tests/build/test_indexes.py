"""A package index out of build secrets: what is taken for one."""

from __future__ import annotations

import pytest

from tailrace.build.indexes import find_index
from tailrace.errors import InvalidRequest


@pytest.mark.parametrize("address", ["https://[abc/simple", "https:///simple", "https://:8080/simple"])
def test_an_address_without_a_host_is_refused(address: str) -> None:
    """Before the installer fails on it, whose words could not be told without the address in them."""
    with pytest.raises(InvalidRequest, match="holds something else than addresses") as refused:
        find_index({"pip-index-url": address.encode()}, b"key")

    assert address not in refused.value.text
