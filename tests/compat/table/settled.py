"""Secrets, namespaces and the remote builder."""

from __future__ import annotations

from tests.compat.table.asked import CLI, CLI_JSON, EMPTY, IN_JSON, IN_LINES, IN_TEXT, PLAIN, SDK, SDK_JSON
from tests.compat.world import STAGING, deployed, namespace, no_namespace, no_secret, secret
from tests.kit.remote import context_tar, signed
from tests.kit.replay import Case, Text, holding

_SECRETS = "/system/secrets"  # a path
_LISTED = {"name": Text("."), "namespace": Text("."), "functions?": [str]}

_SECRET = (
    Case(
        "secret create api-key --from-literal s3cret", f"POST {_SECRETS}", 202, given=(no_secret("api-key"),),
        headers=CLI_JSON, body=b'{"name":"api-key","value":"s3cret"}', replied=EMPTY,
    ),
    Case(
        "secret create api-key --from-file secret.txt -n staging-fn", f"POST {_SECRETS}", 202,
        given=(no_secret("api-key", STAGING),), headers=CLI_JSON, replied=EMPTY,
        body=b'{"name":"api-key","namespace":"staging-fn","value":"s3cret","rawValue":"czNjcmV0"}',
    ),
    Case(
        "secret create of one that is there", f"POST {_SECRETS}", 409, given=(secret("api-key"),),
        headers=CLI_JSON, body=b'{"name":"api-key","value":"x"}', replied=IN_TEXT, shape=Text("api-key"),
    ),
    Case(
        "secret create api-key --from-literal x --replace, after the 409", f"PUT {_SECRETS}", 202,
        given=(secret("api-key"),), headers=CLI_JSON, body=b'{"name":"api-key","value":"x"}', replied=EMPTY,
    ),
    Case(
        "secret list: names and no values", f"GET {_SECRETS}", 200, given=(secret("api-key"),), headers=CLI,
        replied=IN_JSON, shape=[{**_LISTED, "namespace": "openfaas-fn"}],
    ),
    Case(
        "secret list -n staging-fn --json", f"GET {_SECRETS}?namespace=staging-fn", 200,
        given=(secret("api-key", STAGING),), headers=CLI, replied=IN_JSON,
        shape=holding({**_LISTED, "name": "api-key", "namespace": STAGING}),
    ),
    Case(
        "secret list where there is none: never null", f"GET {_SECRETS}?namespace=nothing", 200, headers=CLI,
        replied=IN_JSON, shape=lambda found: found == [],
    ),
    Case(
        "secret update api-key --from-literal new", f"PUT {_SECRETS}", 202, given=(secret("api-key"),),
        headers=CLI_JSON, body=b'{"name":"api-key","value":"new"}', replied=EMPTY,
    ),
    Case(
        "secret update of what is not there", f"PUT {_SECRETS}", 404, headers=CLI_JSON,
        body=b'{"name":"none","value":"new"}', replied=IN_TEXT, shape=Text("none"),
    ),
    Case(
        "secret remove api-key", f"DELETE {_SECRETS}", 202, given=(no_secret("api-key"), secret("api-key")),
        headers=CLI_JSON, body=b'{"name":"api-key"}', replied=EMPTY,
    ),
    Case(
        "secret remove api-key -n staging-fn", f"DELETE {_SECRETS}", 202,
        given=(no_secret("api-key", STAGING), secret("api-key", STAGING)), headers=CLI_JSON,
        body=b'{"name":"api-key","namespace":"staging-fn"}', replied=EMPTY,
    ),
    Case(
        "secret removed by who names the namespace in the query", f"DELETE {_SECRETS}?namespace=staging-fn",
        202, given=(no_secret("api-key", STAGING), secret("api-key", STAGING)), headers=CLI_JSON,
        body=b'{"name":"api-key"}', replied=EMPTY,
    ),
    Case(
        "secret remove of what is not there", f"DELETE {_SECRETS}", 404, headers=CLI_JSON,
        body=b'{"name":"none"}', replied=IN_TEXT, shape=Text("none"),
    ),
    Case(
        "secret apply of .secrets/: the first", f"POST {_SECRETS}", 202, given=(no_secret("api-key"),),
        headers=CLI_JSON, body=b'{"name":"api-key","value":"v1","rawValue":"djEK"}', replied=EMPTY,
    ),
    Case(
        "secret apply of .secrets/: the second", f"POST {_SECRETS}", 202, given=(no_secret("other"),),
        headers=CLI_JSON, body=b'{"name":"other","value":"v2","rawValue":"djIK"}', replied=EMPTY,
    ),
)  # fmt: skip

_ONE = f"/system/namespace/{STAGING}"
_CREATE = b'{"name":"staging-fn","annotations":{"c":"d","openfaas":"1"},"labels":{"a":"b","openfaas":"1"}}'
_UPDATE = b'{"name":"staging-fn","annotations":{"openfaas":"1"},"labels":{"a":"c","openfaas":"1"}}'
_REMOVE = b'{"name":"staging-fn","labels":{"openfaas":"1"}}'

_NAMESPACE = (
    Case(
        "namespace list, namespaces", "GET /system/namespaces", 200, given=(namespace(STAGING),), headers=SDK,
        replied=IN_JSON, shape=holding("openfaas-fn", STAGING),
    ),
    Case(
        "namespace create staging-fn --label a=b --annotation c=d", "POST /system/namespace/", 201,
        given=(no_namespace(STAGING),), headers=SDK_JSON, body=_CREATE, replied=EMPTY,
    ),
    Case(
        "namespace create of one that is there", "POST /system/namespace/", 409, given=(namespace(STAGING),),
        headers=SDK_JSON, body=_CREATE, replied=IN_TEXT, shape=Text(STAGING),
    ),
    Case(
        "namespace create by somebody who forgets OpenFaaS's mark", "POST /system/namespace/", 400,
        headers=SDK_JSON, body=b'{"name":"staging-fn"}', replied=IN_TEXT, shape=Text("openfaas=1 label"),
    ),
    Case(
        "namespace get staging-fn", f"GET {_ONE}", 200, given=(namespace(STAGING),), headers=SDK,
        replied=IN_JSON,
        shape={"name": STAGING, "annotations": {"c": "d", "openfaas": "1"},
               "labels": {"a": "b", "openfaas": "1"}},
    ),
    Case(
        "namespace get of what is not there", "GET /system/namespace/none", 404, headers=SDK,
        replied=IN_TEXT, shape=Text("namespace none not found"),
    ),
    Case(
        "namespace update staging-fn --label a=c", f"PUT {_ONE}", 202, given=(namespace(STAGING),),
        headers=SDK_JSON, body=_UPDATE, replied=EMPTY,
    ),
    Case(
        "namespace update of what is not there", "PUT /system/namespace/none", 404, headers=SDK_JSON,
        body=_UPDATE.replace(b"staging-fn", b"none"), replied=IN_TEXT, shape=Text("namespace none not found"),
    ),
    Case(
        "namespace remove staging-fn", f"DELETE {_ONE}", 202,
        given=(no_namespace(STAGING), namespace(STAGING)), headers=SDK_JSON, body=_REMOVE, replied=EMPTY,
    ),
    Case(
        "namespace remove of what is not there", "DELETE /system/namespace/none", 404, headers=SDK_JSON,
        body=_REMOVE.replace(b"staging-fn", b"none"), replied=IN_TEXT, shape=Text("namespace none not found"),
    ),
    Case(
        "namespace remove of one that is in use keeps it", f"DELETE {_ONE}", 400,
        given=(deployed("second", STAGING),), headers=SDK_JSON, body=_REMOVE, replied=IN_TEXT,
        shape=Text("second"),
    ),
)  # fmt: skip

_CONTEXT = context_tar(
    {
        "template.yml": "language: python3-http\nfprocess: python index.py\n",
        "function/handler.py": "def handle(event, context):\n    return {'body': 'built'}\n",
        "function/requirements.txt": "",
    },
    image="ghcr.io/lab/built:0.1",
)
_RESULT = {
    "log": [str], "image": str, "status": Text("^(in_progress|success|failed)$"), "error": str,
}  # fmt: skip

_BUILD = (
    Case(
        "up --remote-builder URL --payload-secret FILE, publish --remote-builder", "POST /build", 200,
        headers=signed(_CONTEXT), body=_CONTEXT, replied=IN_LINES, shape=[_RESULT],
    ),
    Case(
        "up --remote-builder: the last line tells how it ended", "POST /build", 200,
        headers=signed(_CONTEXT), body=_CONTEXT, replied=IN_LINES,
        shape=lambda lines: (lines[-1]["status"], lines[-1]["image"]) == ("success", "ghcr.io/lab/built:0.1"),
    ),
    Case(
        "up --remote-builder with another payload secret", "POST /build", 401,
        headers=signed(_CONTEXT, "another secret of 32 letters...."), body=_CONTEXT, replied=IN_TEXT,
        shape=Text("X-Build-Signature"),
    ),
    Case(
        "up --remote-builder with build_secrets: whom to seal them for", "GET /publickey", 200, headers=PLAIN,
        replied=IN_JSON,
        shape={"key_id": Text("."), "algorithm": "nacl/box", "public_key": Text("^[A-Za-z0-9+/]{43}=$")},
    ),
)  # fmt: skip

CASES = _SECRET + _NAMESPACE + _BUILD
