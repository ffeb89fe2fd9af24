"""The OpenAPI document is whole, and the gateway answers as it says, whatever is asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tailrace.control.openapi import describe
from tailrace.control.table import ROWS, Row
from tests.kit.gateway import Town, running_town

pytestmark = pytest.mark.slow


def test_every_route_is_described() -> None:
    """3.1, each row with its own id, and a type for what it takes and gives."""
    document = json.loads(describe(ROWS, has_auth=True))

    operations = [o for methods in document["paths"].values() for o in methods.values()]
    assert document["openapi"].startswith("3.1")
    assert len(ROWS) == len(operations) == len({o["operationId"] for o in operations})
    assert {"FunctionDeployment", "FunctionStatus", "Secret"} <= set(document["components"]["schemas"])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("api"), flags={"nats_url": "embedded"}) as town:
        town.deploy("fn", "def handle(req):\n    return req\n")
        yield town


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_the_gateway_answers_as_its_document_says(town: Town, row: Row, mode: GenerationMode) -> None:
    """No status, content type or shape that is not written down, and never a fault of the gateway."""
    schema = schemathesis.openapi.from_url(f"{town.url}/openapi.json")
    operation = schema[row.path.replace(":path}", "}")][row.method]

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Case[Any]) -> None:
        query = case.query if isinstance(case.query, dict) else {}
        query |= {name: "0" for name in ("follow", "wait") if name in query}  # the two that take their time
        case.call_and_validate(
            excluded_checks=[positive_data_acceptance, negative_data_rejection], timeout=30
        )

    with contextlib.suppress(Unsatisfiable):  # who takes nothing cannot be asked wrongly
        ask()
