"""Login, versions, readiness, and who is let in."""

from __future__ import annotations

from tests.compat.table.asked import CLI, CLI_JSON, EMPTY, IN_JSON, IN_TEXT, PLAIN, compact
from tests.compat.world import deployed
from tests.kit.replay import Case, Text

_REALM = {"www-authenticate": 'Basic realm="Restricted"', **IN_TEXT}
_VERSION = {"release": Text("."), "sha": str, "commit_message?": str}

CASES = (
    Case(
        "login -u admin --password-stdin", "GET /system/functions", 200,
        headers={**PLAIN, "Authorization": "Basic YWRtaW46bGFicGFzcw=="}, replied=IN_JSON, shape=list,
    ),
    Case(
        "login with a wrong password", "GET /system/functions", 401,
        headers={**PLAIN, "Authorization": "Basic YWRtaW46YmFk"}, replied=_REALM,
        shape="invalid credentials",
    ),
    Case(
        "list without a login, which sends an empty token", "GET /system/functions", 401,
        headers={**CLI, "Authorization": "Bearer "}, replied=_REALM, shape="invalid credentials",
    ),
    Case(
        "a request without any credentials", "GET /system/info", 401, headers=PLAIN, replied=_REALM,
        shape="invalid credentials",
    ),
    Case(
        "version, which reads both versions without asking whether they are there", "GET /system/info", 200,
        headers=CLI, replied=IN_JSON,
        shape={
            "arch": Text("."), "version": _VERSION,
            "provider": {"provider": Text("."), "orchestration": Text("."), "version": _VERSION},
        },
    ),
    Case("ready --attempts 2", "GET /healthz", 200, headers=PLAIN, replied=EMPTY),
    Case(
        "healthz with an empty token", "GET /healthz", 200,
        headers={**PLAIN, "Authorization": "Bearer "}, replied=EMPTY,
    ),
    Case(
        "a browser at the gateway's address", "GET /", 307, headers=PLAIN,
        replied={"location": Text("/ui/$")}, shape=str,
    ),
    Case("a browser at the page, not logged in", "GET /ui/", 401, headers=PLAIN, replied=_REALM,
         shape="invalid credentials"),
    Case("a browser at the page", "GET /ui/", 200, headers=CLI,
         replied={"content-type": Text("^text/html")}, shape=Text("<html")),
    Case("metrics have their own port", "GET /metrics", 404, headers=CLI, replied=IN_TEXT, shape=str),
    Case("telemetry, which no free provider has", "GET /system/telemetry", 404, headers=CLI,
         replied=IN_TEXT, shape=str),
    Case(
        "Alertmanager: a function is busy", "POST /system/alert", 200, given=(deployed("second"),),
        headers=CLI_JSON, replied=EMPTY,
        body=compact({
            "status": "resolved", "receiver": "scale-up",
            "alerts": [{"status": "resolved", "labels": {
                "alertname": "APIHighInvocationRate", "function_name": "second.openfaas-fn",
            }}],
        }),
    ),
    Case(
        "Alertmanager: what is no alert", "POST /system/alert", 400, headers=CLI_JSON, body=b"{}",
        replied=IN_TEXT, shape=Text("."),
    ),
    Case(
        "store list, describe, deploy of OPENFAAS_STORE=.../store/functions.json",
        "GET /store/functions.json", 200, headers=PLAIN, replied=IN_JSON,
        shape={
            "version": Text(r"^0\.2"),
            "functions": [{
                "title": Text("."), "name": Text("^[a-z0-9-]+$"), "description": Text("."),
                "author?": str, "icon?": str, "repo_url": str, "fprocess?": str, "environment?": dict,
                "labels?": dict, "annotations?": dict, "readOnlyRootFilesystem?": bool,
                "secrets?": [str], "lang": str,  # ours
                "images": lambda images: set(images) >= {"x86_64", "arm64"},
            }],
        },
    ),
)  # fmt: skip
