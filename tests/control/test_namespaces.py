"""Namespaces: made, changed, listed and removed as faas-cli does it, and apart from each other."""

from __future__ import annotations

import httpx
import pytest

from tests.kit.gateway import Town

MARK = {"openfaas": "1"}


def body(name: str, **labels: str) -> dict[str, object]:
    return {"name": name, "labels": {**MARK, **labels}, "annotations": dict(MARK)}


def test_a_namespace_lives_as_faas_cli_expects(town: Town) -> None:
    """201, listed, read back, 409 the second time, 202 for a change and for its end, then 404."""
    with town.http() as http:
        created = http.post("/system/namespace/", json=body("staging", a="b"))
        again = http.post("/system/namespace/", json=body("staging"))
        listed = http.get("/system/namespaces").json()
        read = http.get("/system/namespace/staging").json()
        changed = http.put("/system/namespace/staging", json=body("staging", a="c"))
        read_again = http.get("/system/namespace/staging").json()
        removed = http.request("DELETE", "/system/namespace/staging", json=body("staging"))
        gone = [http.get("/system/namespace/staging"), http.delete("/system/namespace/staging")]

    assert [201, 409, 202, 202] == [reply.status_code for reply in (created, again, changed, removed)]
    assert ["openfaas-fn", "staging"] == listed
    assert {"name": "staging", "labels": {**MARK, "a": "b"}, "annotations": MARK} == read
    assert {**MARK, "a": "c"} == read_again["labels"]
    assert [404, 404] == [reply.status_code for reply in gone]
    assert "namespace staging not found" in gone[0].text


def test_a_namespace_that_holds_something_stays(town: Town) -> None:
    """What is in it is named; a secret alone makes a namespace exist."""
    with town.http() as http:
        http.post("/system/secrets", json={"name": "key", "namespace": "held", "value": "x"})
        listed = http.get("/system/namespaces").json()
        refused = http.delete("/system/namespace/held")
        http.request("DELETE", "/system/secrets", json={"name": "key", "namespace": "held"})
        after = http.get("/system/namespaces").json()

    assert "held" in listed
    assert 400 == refused.status_code
    assert "secrets key" in refused.text
    assert "held" not in after


def test_the_default_namespace_stays(town: Town) -> None:
    with town.http() as http:
        refused = http.delete("/system/namespace/openfaas-fn")

    assert 400 == refused.status_code


def test_secrets_of_one_namespace_are_not_another_s(town: Town) -> None:
    """A function may only name secrets of its own namespace, and the list shows who uses one."""
    handler = "def handle(req):\n    return open('/var/openfaas/secrets/shared').read()\n"
    with town.http() as http:
        http.post("/system/secrets", json={"name": "shared", "namespace": "one", "value": "of one"})
        town.deploy("reader", handler, namespace="one", secrets=["shared"])
        with pytest.raises(AssertionError, match="unable to find secret: 'shared' in namespace 'two'"):
            town.deploy("reader", handler, namespace="two", secrets=["shared"])
        answer = http.post("/function/reader.one")
        listed = http.get("/system/secrets", params={"namespace": "one"}).json()
        used = http.request("DELETE", "/system/secrets", json={"name": "shared", "namespace": "one"})
        http.put("/system/secrets", json={"name": "shared", "namespace": "one", "value": "new"})
        changed = http.post("/function/reader.one")
        http.request("DELETE", "/system/functions", json={"functionName": "reader", "namespace": "one"})

    assert "of one" == answer.text
    assert [{"name": "shared", "namespace": "one", "functions": ["reader"]}] == listed
    assert 400 == used.status_code
    assert "reader" in used.text
    assert "new" == changed.text


@pytest.mark.parametrize("name", ["fn", "fn.openfaas-fn"])
def test_the_default_namespace_can_be_named(town: Town, name: str) -> None:
    """faas-cli always calls NAME.openfaas-fn."""
    town.deploy("fn", "def handle(req):\n    return 'here'\n")

    assert "here" == httpx.post(f"{town.url}/function/{name}").text
