"""Deploy, list, describe, diff, ready, scale and remove."""

from __future__ import annotations

from tests.compat.table.asked import CLI, CLI_JSON, EMPTY, IN_JSON, IN_TEXT, RFC3339, compact
from tests.compat.world import HELLO, STAGING, absent, called, deployed, image, secret
from tests.kit.replay import Case, Text, holding, number

_FUNCTIONS = "/system/functions"
_SECOND = {"service": "second", "image": "ghcr.io/lab/second:0.1", "labels": {}, "annotations": {}}
_ADHOC = {
    "service": "adhoc", "image": "ghcr.io/lab/adhoc:1", "namespace": STAGING, "envProcess": "cat",
    "envVars": {"A": "1"}, "constraints": ["node=1"], "secrets": ["api-key"], "labels": {"l": "v"},
    "annotations": {"k": "v"}, "limits": {"memory": "64Mi"}, "requests": {"cpu": "10m"},
    "readOnlyRootFilesystem": True,
}  # fmt: skip
_NODEINFO = {
    "service": "nodeinfo", "image": "ghcr.io/openfaas/nodeinfo:latest", "envVars": {"A": "1"}, "labels": {},
    "annotations": {},
}  # fmt: skip
_SSE = {
    "service": "sse2", "image": "ghcr.io/lab/sse:0.1", "namespace": STAGING, "envProcess": "python index.py",
    "envVars": {"write_timeout": "5m"}, "labels": {"com.openfaas.ui.ext": "txt", "x": "y"},
    "annotations": {"note": "x"}, "readOnlyRootFilesystem": True,
}  # fmt: skip
_R = {"memory?": str, "cpu?": str}
_ONE = {
    "name": Text("."), "image": Text("."), "createdAt": RFC3339, "namespace?": str, "envProcess?": str,
    "envVars?": dict, "constraints?": [str], "secrets?": [str], "labels": dict, "annotations": dict,
    "limits?": _R, "requests?": _R, "readOnlyRootFilesystem?": bool, "replicas?": int,
    "availableReplicas?": int, "tailrace": dict,
}  # fmt: skip
_USED = {"usage?": {"cpu?": number, "totalMemoryBytes?": number}}
_LISTED = {**_ONE, "invocationCount?": number}
_READY = {"availableReplicas": int}
# What diff compares comes back as it was sent.
_HELLO_AGAIN = {key: value for key, value in HELLO.items() if key != "service"}


def _as(name: str, kind: dict[str, object] = _ONE, **more: object) -> dict[str, object]:
    """A function of that name; keys that are given here must be there."""
    shape = {key: value for key, value in kind.items() if key.removesuffix("?") not in more}
    return {**shape, **more, "name": name}


_DEPLOY = (
    Case(
        "deploy -f stack.yaml, not there yet: update first", f"PUT {_FUNCTIONS}", 404,
        given=(secret("api-key"), image("hello"), absent("hello")), headers=CLI_JSON, body=compact(HELLO),
        replied=IN_TEXT, shape=Text("hello"),
    ),
    Case(
        "deploy -f stack.yaml, not there yet: then create", f"POST {_FUNCTIONS}", 202,
        given=(secret("api-key"), image("hello"), absent("hello")), headers=CLI_JSON, body=compact(HELLO),
        replied=EMPTY,
    ),
    Case(
        "deploy -f stack.yaml, an image alone: update first", f"PUT {_FUNCTIONS}", 404,
        given=(image("second"), absent("second")), headers=CLI_JSON, body=compact(_SECOND), replied=IN_TEXT,
        shape=Text("second"),
    ),
    Case(
        "deploy -f stack.yaml, an image alone: then create", f"POST {_FUNCTIONS}", 202,
        given=(image("second"), absent("second")), headers=CLI_JSON, body=compact(_SECOND), replied=EMPTY,
    ),
    Case(
        "deploy -f stack.yaml --filter hello, again", f"PUT {_FUNCTIONS}", 202, given=(deployed("hello"),),
        headers=CLI_JSON, body=compact(HELLO), replied=EMPTY,
    ),
    Case(
        "deploy --filter second --replace --update=false: remove", f"DELETE {_FUNCTIONS}", 202,
        given=(deployed("second"),), headers=CLI_JSON, body=b'{"functionName":"second"}', replied=EMPTY,
    ),
    Case(
        "deploy --filter second --replace --update=false: create", f"POST {_FUNCTIONS}", 202,
        given=(image("second"), absent("second")), headers=CLI_JSON, body=compact(_SECOND), replied=EMPTY,
    ),
    Case(
        "deploy --image --name adhoc -n staging-fn with every flag: update first", f"PUT {_FUNCTIONS}", 404,
        given=(secret("api-key", STAGING), image("adhoc"), absent("adhoc", STAGING)), headers=CLI_JSON,
        body=compact(_ADHOC), replied=IN_TEXT, shape=Text("adhoc"),
    ),
    Case(
        "deploy --image --name adhoc -n staging-fn with every flag: then create", f"POST {_FUNCTIONS}", 202,
        given=(secret("api-key", STAGING), image("adhoc"), absent("adhoc", STAGING)), headers=CLI_JSON,
        body=compact(_ADHOC), replied=EMPTY,
    ),
    Case(
        "deploy --image in a folder with a stack.yaml, which wins", f"PUT {_FUNCTIONS}", 202,
        given=(deployed("second"),), headers=CLI_JSON, body=compact(_SECOND), replied=EMPTY,
    ),
    Case(
        "deploy --update=false of what is there", f"POST {_FUNCTIONS}", 409, given=(deployed("second"),),
        headers=CLI_JSON, body=compact(_SECOND), replied=IN_TEXT, shape=Text("second"),
    ),
    Case(
        "store deploy env of the gateway's own store", f"POST {_FUNCTIONS}", 202, given=(absent("env"),),
        headers=CLI_JSON, body=compact({**_SECOND, "service": "env", "image": "tailrace-store/env:1"}),
        replied=EMPTY,
    ),
    Case(
        "deploy of an image that nobody built says what to run", f"POST {_FUNCTIONS}", 400,
        given=(absent("second"),), headers=CLI_JSON,
        body=compact({**_SECOND, "image": "ghcr.io/lab/none:1"}),
        replied=IN_TEXT, shape=Text("ghcr.io/lab/none:1.*tailrace"),
    ),
    Case(
        "deploy with a secret that is not there", f"POST {_FUNCTIONS}", 400,
        given=(image("second"), absent("second")), headers=CLI_JSON,
        body=compact({**_SECOND, "secrets": ["none"]}), replied=IN_TEXT,
        shape=Text("unable to find secret: .*none"),
    ),
    Case(
        "deploy of a name that is no DNS entry", f"POST {_FUNCTIONS}", 400, headers=CLI_JSON,
        body=compact({**_SECOND, "service": "No_Name"}), replied=IN_TEXT,
        shape=Text(r"validation failed: service: \(No_Name\) is invalid, must be a valid DNS entry"),
    ),
    Case(
        "deploy without a name", f"POST {_FUNCTIONS}", 400, headers=CLI_JSON,
        body=compact({**_SECOND, "service": ""}), replied=IN_TEXT,
        shape=Text("validation failed: service: is required"),
    ),
    Case(
        "deploy without an image", f"POST {_FUNCTIONS}", 400, headers=CLI_JSON,
        body=compact({**_SECOND, "image": ""}), replied=IN_TEXT,
        shape=Text("validation failed: image: is required"),
    ),
    Case(
        "deploy of what is no JSON", f"POST {_FUNCTIONS}", 400, headers=CLI_JSON, body=b"{",
        replied=IN_TEXT, shape=Text("^failed to unmarshal request: "),
    ),
    Case(
        "store deploy nodeinfo --env A=1: update first", f"PUT {_FUNCTIONS}", 404,
        given=(image("nodeinfo"), absent("nodeinfo")), headers=CLI_JSON, body=compact(_NODEINFO),
        replied=IN_TEXT, shape=Text("nodeinfo"),
    ),
    Case(
        "store deploy nodeinfo --env A=1: then create", f"POST {_FUNCTIONS}", 202,
        given=(image("nodeinfo"), absent("nodeinfo")), headers=CLI_JSON, body=compact(_NODEINFO),
        replied=EMPTY,
    ),
    Case(
        "store deploy sse-demo --name sse2 -n staging-fn --label x=y: update first", f"PUT {_FUNCTIONS}", 404,
        given=(image("sse"), absent("sse2", STAGING)), headers=CLI_JSON, body=compact(_SSE),
        replied=IN_TEXT, shape=Text("sse2"),
    ),
    Case(
        "store deploy sse-demo --name sse2 -n staging-fn --label x=y: then create", f"POST {_FUNCTIONS}", 202,
        given=(image("sse"), absent("sse2", STAGING)), headers=CLI_JSON, body=compact(_SSE), replied=EMPTY,
    ),
)  # fmt: skip

_LOOK = (
    Case(
        "list, list -q, list --json, gateway from OPENFAAS_URL", f"GET {_FUNCTIONS}", 200,
        given=(deployed("hello"), called("hello"), deployed("second")), headers=CLI, replied=IN_JSON,
        shape=holding(_as("hello", _LISTED, invocationCount=number), _as("second", _LISTED)),
    ),
    Case(
        "list -k TOKEN of somebody who is logged in", f"GET {_FUNCTIONS}", 200, headers=CLI, replied=IN_JSON,
        shape=[_LISTED],
    ),
    Case(
        "list --verbose -n staging-fn", f"GET {_FUNCTIONS}?namespace=staging-fn", 200,
        given=(deployed("second", STAGING),), headers=CLI, replied=IN_JSON,
        shape=holding(_as("second", _LISTED, namespace=STAGING)),
    ),
    Case(
        "list -n of a namespace that holds nothing: never null", f"GET {_FUNCTIONS}?namespace=nothing", 200,
        headers=CLI, replied=IN_JSON, shape=lambda found: found == [],
    ),
    Case(
        "diff -f stack.yaml: all that was deployed comes back", f"GET {_FUNCTIONS}", 200,
        given=(deployed("hello"),), headers=CLI, replied=IN_JSON,
        shape=holding(_as("hello", _LISTED, **_HELLO_AGAIN)),
    ),
    Case(
        "describe hello, describe --json, ready hello", "GET /system/function/hello?usage=1", 200,
        given=(deployed("hello"), called("hello")), headers=CLI, replied=IN_JSON,
        shape=_as("hello", _ONE | _USED, **_READY),
    ),
    Case(
        "describe hello --verbose -n staging-fn, ready hello -n staging-fn",
        "GET /system/function/hello?namespace=staging-fn&usage=1", 200, given=(deployed("hello", STAGING),),
        headers=CLI, replied=IN_JSON, shape=_as("hello", _ONE | _USED, namespace=STAGING, **_READY),
    ),
    Case(
        "describe hello: how often it was called", f"GET {_FUNCTIONS}", 200,
        given=(deployed("hello"), called("hello")), headers=CLI, replied=IN_JSON,
        shape=holding(_as("hello", _LISTED, invocationCount=number)),
    ),
    Case(
        "describe without usage", "GET /system/function/hello", 200, given=(deployed("hello"),), headers=CLI,
        replied=IN_JSON, shape=_as("hello"),
    ),
    Case(
        "describe of what is not there", "GET /system/function/none?usage=1", 404, headers=CLI, replied=EMPTY,
    ),
)  # fmt: skip

_SCALE = "POST /system/scale-function/second"
_CHANGE = (
    Case(
        "a scaler: two replicas", _SCALE, 202, given=(deployed("second"),), headers=CLI_JSON,
        body=b'{"serviceName":"second","replicas":2}', replied=EMPTY,
    ),
    Case(
        "a scaler: none, without a licence", _SCALE, 202, given=(deployed("second"),), headers=CLI_JSON,
        body=b'{"serviceName":"second","replicas":0}', replied=EMPTY,
    ),
    Case(
        "a scaler that names the namespace in the query", f"{_SCALE}?namespace=staging-fn", 202,
        given=(deployed("second", STAGING),), headers=CLI_JSON,
        body=b'{"serviceName":"second","replicas":1}', replied=EMPTY,
    ),
    Case(
        "a scaler that names the namespace in the body", _SCALE, 202,
        given=(deployed("second", STAGING),), headers=CLI_JSON,
        body=b'{"serviceName":"second","replicas":1,"namespace":"staging-fn"}', replied=EMPTY,
    ),
    Case(
        "a scaler of what is not there", "POST /system/scale-function/none", 404, headers=CLI_JSON,
        body=b'{"serviceName":"none","replicas":1}', replied=IN_TEXT, shape=Text("none"),
    ),
    Case(
        "a scaler that sends no JSON", _SCALE, 400, given=(deployed("second"),), headers=CLI_JSON,
        body=b"2x", replied=IN_TEXT, shape=Text("."),
    ),
    Case(
        "remove adhoc", f"DELETE {_FUNCTIONS}", 202, given=(deployed("adhoc"),), headers=CLI_JSON,
        body=b'{"functionName":"adhoc"}', replied=EMPTY,
    ),
    Case(
        "remove adhoc -n staging-fn", f"DELETE {_FUNCTIONS}", 202, given=(deployed("adhoc", STAGING),),
        headers=CLI_JSON, body=b'{"functionName":"adhoc","namespace":"staging-fn"}', replied=EMPTY,
    ),
    Case(
        "the page's remove, which names the namespace in the query",
        f"DELETE {_FUNCTIONS}?namespace=staging-fn", 202, given=(deployed("adhoc", STAGING),),
        headers=CLI_JSON, body=b'{"functionName":"adhoc"}', replied=EMPTY,
    ),
    Case(
        "remove of what is not there", f"DELETE {_FUNCTIONS}", 404, given=(absent("adhoc"),),
        headers=CLI_JSON, body=b'{"functionName":"adhoc"}', replied=IN_TEXT, shape=Text("adhoc"),
    ),
    Case(
        "remove -f stack.yaml, the one with a namespace", f"DELETE {_FUNCTIONS}", 202,
        given=(deployed("hello"),), headers=CLI_JSON,
        body=b'{"functionName":"hello","namespace":"openfaas-fn"}', replied=EMPTY,
    ),
    Case(
        "remove -f stack.yaml, the one without", f"DELETE {_FUNCTIONS}", 202, given=(deployed("second"),),
        headers=CLI_JSON, body=b'{"functionName":"second"}', replied=EMPTY,
    ),
)  # fmt: skip

CASES = _DEPLOY + _LOOK + _CHANGE
