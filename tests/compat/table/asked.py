"""What all requests of the stock command line share. It sends no Accept header.

Source: faas-cli 0.18.12, recorded from a raw TCP server; the gateway's answers from contract 1.2 and 1.3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.kit.replay import Text

_GZIP = {"Accept-Encoding": "gzip"}
_ADMIN = {"Authorization": "Basic YWRtaW46bGFicGFzcw=="}  # admin:labpass
_AS_JSON = {"Content-Type": "application/json"}

PLAIN: Mapping[str, str] = {"User-Agent": "Go-http-client/1.1", **_GZIP}
CLI: Mapping[str, str] = {"User-Agent": "faas-cli/0.18.12", **_ADMIN, **_GZIP}
CLI_JSON: Mapping[str, str] = {**CLI, **_AS_JSON}
SDK: Mapping[str, str] = {"User-Agent": "openfaas-go-sdk", **_ADMIN, **_GZIP}
SDK_JSON: Mapping[str, str] = {**SDK, **_AS_JSON}
# Functions are called without the gateway's password.
CALL: Mapping[str, str] = {
    "User-Agent": "faas-cli/0.18.12 (openfaas; linux; amd64)",
    "Content-Type": "text/plain",
    **_GZIP,
}

EMPTY: Mapping[str, object] = {"content-length": "0"}
IN_JSON: Mapping[str, object] = {"content-type": "application/json"}
IN_TEXT: Mapping[str, object] = {"content-type": Text("^text/plain")}
IN_LINES: Mapping[str, object] = {"content-type": "application/x-ndjson"}

RFC3339 = Text(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")


def compact(value: object) -> bytes:
    """JSON as Go writes it, keys in the order they are given."""
    return json.dumps(value, separators=(",", ":")).encode()
