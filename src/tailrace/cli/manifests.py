"""Functions of a stack file as manifests for Kubernetes: OpenFaaS's Function, and Knative's Service.

Source: contract 1.4 (`generate`).
"""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from tailrace.build.images import with_tag
from tailrace.cli.stackfile import StackFunction
from tailrace.errors import InvalidUsage
from tailrace.model import Resources

FUNCTION = "openfaas.com/v1"
KNATIVE = "serving.knative.dev/v1"
_SECRETS = "/var/openfaas/secrets"

Manifest = dict[str, object]


def manifests(functions: Iterable[StackFunction], api: str) -> list[Manifest]:
    """One manifest for each function.

    Raises:
        InvalidUsage: the API is none that is known.
    """
    makers = {FUNCTION: _function, KNATIVE: _service}
    if api not in makers:
        raise InvalidUsage(f"--api {api} is not known; expected {FUNCTION} or {KNATIVE}")
    return [makers[api](function) for function in functions]


def to_yaml(documents: Iterable[Manifest]) -> str:
    """The manifests as one stream of YAML documents."""
    dumped = (yaml.dump(d, Dumper=_Dumper, sort_keys=False, width=1000) for d in documents)
    return "".join(f"---\n{text}" for text in dumped)


def _function(function: StackFunction) -> Manifest:
    spec: dict[str, object] = {"name": function.name.name, "image": with_tag(function.image)}
    optional = {
        "environment": dict(sorted(function.env.items())),
        "labels": dict(sorted(function.labels.items())),
        "annotations": dict(sorted(function.annotations.items())),
        "limits": _resources(function.limits),
        "requests": _resources(function.requests),
        "constraints": list(function.constraints),
        "secrets": list(function.secrets),
        "readOnlyRootFilesystem": function.read_only_root_filesystem,
    }
    spec |= {key: value for key, value in optional.items() if value}
    return {"apiVersion": FUNCTION, "kind": "Function", "metadata": _metadata(function), "spec": spec}


def _service(function: StackFunction) -> Manifest:
    container: dict[str, object] = {"image": with_tag(function.image)}
    if function.env:
        container["env"] = [{"name": key, "value": value} for key, value in sorted(function.env.items())]
    inner: dict[str, object] = {"containers": [container]}
    if function.secrets:
        container["volumeMounts"] = [
            {"name": name, "mountPath": f"{_SECRETS}/{name}", "readOnly": True} for name in function.secrets
        ]
        inner["volumes"] = [{"name": name, "secret": {"secretName": name}} for name in function.secrets]
    metadata = _metadata(function)
    if function.annotations:
        metadata["annotations"] = dict(sorted(function.annotations.items()))
    return {
        "apiVersion": KNATIVE,
        "kind": "Service",
        "metadata": metadata,
        "spec": {"template": {"spec": inner}},
    }


def _metadata(function: StackFunction) -> dict[str, object]:
    return {"name": function.name.name, "namespace": function.name.namespace}


def _resources(found: Resources | None) -> dict[str, str]:
    pairs = {"memory": found.memory, "cpu": found.cpu} if found else {}
    return {key: value for key, value in pairs.items() if value}


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their key, as such files are written."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)
