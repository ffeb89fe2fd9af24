"""What is wrong with a request is said by a 4xx, twenty times of each kind; nothing of it takes effect."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.kit.gateway import Town

WRONG_JSON = [
    b"", b" ", b"{", b"}", b"[", b"nul", b"{]", b'{"service"}', b'{"service":}', b'{"service":"a",}', b"'{}'",
    b'{"service":"a" "image":"b"}', b"\xff\xfe{}",
    b'{"service":"\xff"}', b'{"service":"a\nb"}', b"\x00", b"{}{}",
    b'{"service":"\\ud800"}', b"<a/>", b"service: a", b"[" * 100_000,
]  # fmt: skip
WRONG_TYPES: list[object] = [
    None, True, 1, "text", [], [{}], {}, {"service": 1}, {"service": None}, {"service": ["a"]},
    {"service": "a"}, {"image": "a"}, {"service": "a", "image": 1}, {"service": "a", "image": {}},
    {"service": "a", "image": "b", "envVars": []}, {"service": "a", "image": "b", "envVars": {"A": 1}},
    {"service": "a", "image": "b", "labels": "x"}, {"service": "a", "image": "b", "secrets": "x"},
    {"service": "a", "image": "b", "secrets": [1]}, {"service": "a", "image": "b", "limits": []},
    {"service": "a", "image": "b", "readOnlyRootFilesystem": "yes"},
    {"service": "a", "image": "b", "namespace": 7},
]  # fmt: skip
ODD_QUANTITIES = [
    "viel", "-1", "1 Gi", "128MB", "1GiB", "1,5", "0x10", "1e", "Mi", ".", "1.2.3", "\u0661", "inf", "1\n",
]  # fmt: skip
ODD_LABELS = [
    "", "a b", "-a", "a-", "a" * 64, "\u00e4", "/a", "a/", "a/b/c", "A/b", "a_b/c", "a..b/c", "-a/b", "a\n",
    f"{'a.' * 127}a/b",
]  # fmt: skip
ODD_NAMES = [
    "A", "a_b", "-a", "a-", "a" * 64, "ä", "a b", "a\n", "a\x00", ".", "..", "../a", "a/b", "a\\b", "%2e%2e",
    "a..b",
    "a.b.c", "~", "*", "${x}", "a;b", "'", "<a>",
]  # fmt: skip
TRAVERSALS = [
    "../a", "../../etc/passwd", "..%2f..%2fetc", "/etc/passwd", "a/../../b", "....//a",
    "..", ".", "...", "a..b",
    "\\..\\a", "a\x00.b", "a\n", "%00", "~root", "a/", "/a",
    "..;/a", "a/./b", "\u2025", "con/../a", ".tmp-a", "-a", "a.",
]  # fmt: skip


@pytest.fixture
def http(town: Town) -> Iterator[httpx.Client]:
    with town.http() as http:
        yield http


def is_refused(reply: httpx.Response) -> bool:
    """A 4xx with words."""
    return 400 <= reply.status_code < 500 and len(reply.text.strip()) > 10


def names_there(http: httpx.Client) -> list[str]:
    return [function["name"] for function in http.get("/system/functions").json()]


@pytest.mark.parametrize("text", ODD_QUANTITIES, ids=repr)
@pytest.mark.parametrize("key", ["memory", "cpu", "nvidia.com/gpu"])
def test_what_is_no_quantity_is_refused(http: httpx.Client, key: str, text: str) -> None:
    body = {"service": "odd", "image": "odd", "requests": {"memory": "1Gi"}, "limits": {key: text}}

    reply = http.post("/system/functions", json=body)

    assert 400 == reply.status_code
    assert f"limits: {key} '{text}' is no quantity" in reply.text
    assert "128Mi" in reply.text


@pytest.mark.parametrize("label", ODD_LABELS, ids=lambda label: repr(label[:20]))
def test_what_can_be_no_labels_key_is_refused(http: httpx.Client, label: str) -> None:
    reply = http.post("/system/functions", json={"service": "odd", "image": "odd", "labels": {label: "x"}})

    assert 400 == reply.status_code
    said = ascii(label)[1:-1]
    assert f"label '{label[:80]}' is no legal key" in reply.text or f"'{said}' holds control" in reply.text


def test_quantities_and_labels_of_kubernetes_are_taken(town: Town) -> None:
    quantities = ["128Mi", "1Gi", "500M", "0.5", "500m", "100", "1e3", "", "2.", ".5", "+1"]
    labels = {
        "a": "",
        "com.openfaas.scale.min": "1",
        "example.com/Team_1.x-y": "any text, as ever",
        "a" * 63: "x",
    }
    for quantity in quantities:
        found = town.deploy(
            "measured", "def handle(req):\n    return req\n", labels=labels,
            limits={"memory": quantity}, requests={"cpu": quantity},
        )  # fmt: skip
        assert labels == found["labels"]
        assert ({"memory": quantity} if quantity else {}) == found["limits"]

    with town.http() as http:
        assert (
            202 == http.request("DELETE", "/system/functions", json={"functionName": "measured"}).status_code
        )


@pytest.mark.parametrize("body", WRONG_JSON, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize(("method", "path"), [("POST", "/system/functions"), ("PUT", "/system/secrets")])
def test_what_is_no_json_is_refused(http: httpx.Client, method: str, path: str, body: bytes) -> None:
    reply = http.request(method, path, content=body, headers={"Content-Type": "application/json"})

    assert 400 == reply.status_code
    assert reply.text.startswith("failed to unmarshal request: ")


@pytest.mark.parametrize("body", WRONG_TYPES, ids=repr)
def test_json_of_another_shape_is_refused(http: httpx.Client, body: object) -> None:
    reply = http.post("/system/functions", json=body)

    assert is_refused(reply)
    assert [] == names_there(http)


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_odd_names_of_functions_are_refused(http: httpx.Client, name: str) -> None:
    """In a deployment, a scaling, a removal and a look-up; and as a namespace."""
    there = {"service": name, "image": "x"}
    replies = [
        http.post("/system/functions", json=there),
        http.post("/system/functions", json={"service": "a", "image": "x", "namespace": name}),
        http.request("DELETE", "/system/functions", json={"functionName": name}),
        http.post("/system/namespace/", json={"name": name, "labels": {"openfaas": "1"}}),
        http.get("/system/functions", params={"namespace": name}),
        http.get("/system/logs", params={"name": name}),
    ]

    assert [True] * len(replies) == [is_refused(reply) for reply in replies]
    assert [] == names_there(http)


@pytest.mark.parametrize("name", TRAVERSALS, ids=repr)
def test_names_that_are_paths_are_refused(http: httpx.Client, town: Town, name: str) -> None:
    """As a secret, as its namespace, as an uploaded bundle's digest; nothing is written anywhere."""
    state = town.work.parent / "state"
    before = sorted(state.rglob("*"))
    replies = [
        http.post("/system/secrets", json={"name": name, "value": "x"}),
        http.put("/system/secrets", json={"name": name, "value": "x"}),
        http.request("DELETE", "/system/secrets", json={"name": name}),
        http.post("/system/secrets", json={"name": "a", "namespace": name, "value": "x"}),
        http.post("/system/functions", json={"service": "a", "image": "x", "secrets": [name]}),
    ]

    assert [True] * len(replies) == [is_refused(reply) for reply in replies]
    assert before == sorted(state.rglob("*"))


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5_000_000])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/system/functions"), ("PUT", "/system/functions"), ("DELETE", "/system/functions"),
        ("DELETE", "/system/secrets"),
        ("POST", "/system/namespace/"), ("PUT", "/system/namespace/a"), ("POST", "/system/alert"),
        ("POST", "/system/scale-function/a"),
    ],
)  # fmt: skip
def test_bodies_that_are_too_large_are_refused(http: httpx.Client, method: str, path: str, size: int) -> None:
    """By their length or, without one, as soon as they are."""
    sized = http.request(method, path, content=b'{"name":"' + b"a" * size)
    streamed = http.request(method, path, content=(b"a" * 65536 for _ in range(size // 65536 + 1)))

    assert [413, 413] == [sized.status_code, streamed.status_code]
    assert "1048576 bytes" in sized.text


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_json_around_a_secret_is_bounded_too(http: httpx.Client, method: str) -> None:
    """Eight times the value's own limit: no value of 1 MiB needs more."""
    size = 8 * 1024 * 1024
    sized = http.request(method, "/system/secrets", content=b'{"name":"' + b"a" * size)
    streamed = http.request(
        method, "/system/secrets", content=(b"a" * 65536 for _ in range(size // 65536 + 1))
    )

    assert [413, 413] == [sized.status_code, streamed.status_code]
    assert f"{size} bytes" in sized.text


SCREEN_PLAYS = ["\x1b[2J", "a\x07", "\x9b31m", "a\rb", "a\x00b", "\x7f"]


@pytest.mark.parametrize("kind", ["labels", "annotations"])
@pytest.mark.parametrize("text", SCREEN_PLAYS, ids=repr)
def test_what_plays_on_a_screen_is_no_label(http: httpx.Client, kind: str, text: str) -> None:
    """Nor an annotation: whoever lists functions or namespaces sees them as they are."""
    value = text if text != "a\rb" else "a\x0bb"  # line ends may stand in an annotation
    pairs = [{"k": value}, {text: "v"}]
    deployments = [{"service": "a", "image": "b", kind: pair} for pair in pairs]
    namespaces = [
        {"name": "a", "labels": {"openfaas": "1"}, kind: {"openfaas": "1", **pair}} for pair in pairs
    ]

    replies = [http.post("/system/functions", json=body) for body in deployments]
    replies += [http.post("/system/namespace/", json=body) for body in namespaces]

    assert [400] * 4 == [reply.status_code for reply in replies]
    assert all("holds control characters" in reply.text for reply in replies)


@pytest.mark.parametrize("image", [*SCREEN_PLAYS, "a b", "a\nb", "a\u202eb"], ids=repr)
def test_what_plays_on_a_screen_is_no_image(http: httpx.Client, image: str) -> None:
    """By none of the doors: deploying, uploading, asking."""
    replies = [
        http.post("/system/functions", json={"service": "a", "image": image}),
        http.put(f"/system/bundles/{'0' * 64}", params={"image": image}, content=b"x"),
        http.get("/system/bundles", params={"image": image}),
    ]

    assert [400] * 3 == [reply.status_code for reply in replies]
    assert all("is no name of an image" in reply.text for reply in replies)


def test_an_annotation_may_have_lines(http: httpx.Client) -> None:
    """As Kubernetes has them; a label may not."""
    body = {"name": "lines", "labels": {"openfaas": "1"}, "annotations": {"note": "a\tb\r\nc"}}

    made = http.post("/system/namespace/", json=body)
    labelled = http.post("/system/namespace/", json={**body, "labels": {"openfaas": "1", "a": "b\nc"}})

    assert [201, 400] == [made.status_code, labelled.status_code]
    http.delete("/system/namespace/lines")
