"""What differs between a function as it is wished for and as it is deployed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.wire.openfaas import FunctionDeployment, FunctionStatus, Resources

PRESENT = "present"
SET, DIFFERS = "set", "differs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One property; an empty side has it not."""

    key: str
    wished: str = ""
    deployed: str = ""


def differences(wished: FunctionDeployment, deployed: FunctionStatus) -> list[Difference]:
    """The properties that are not the same on both sides, sorted by their key."""
    left, right = properties(wished), properties(deployed)
    return [
        Difference(key, left.get(key, ""), right.get(key, ""))
        for key in sorted({*left, *right})
        if left.get(key, "") != right.get(key, "")
    ]


def without_values(found: list[Difference]) -> list[Difference]:
    """The same, but of variables, whose values may be keys, only that they are set, and differ."""
    return [_without_value(one) if one.key.startswith("env.") else one for one in found]


def _without_value(one: Difference) -> Difference:
    if one.wished and one.deployed:
        return Difference(one.key, SET, DIFFERS)
    return Difference(one.key, SET if one.wished else "", SET if one.deployed else "")


def properties(found: FunctionDeployment | FunctionStatus) -> Mapping[str, str]:
    """All that a person sets about a function, as texts."""
    pairs = {
        "image": found.image,
        "fprocess": found.env_process,
        "readonly_root_filesystem": str(found.read_only_root_filesystem).lower(),
        **_named("annotation", found.annotations),
        **_named("env", found.env_vars),
        **_named("label", found.labels),
        **_named("constraint", dict.fromkeys(found.constraints or (), PRESENT)),
        **_named("secret", dict.fromkeys(found.secrets or (), PRESENT)),
        **_named("limits", _resources(found.limits)),
        **_named("requests", _resources(found.requests)),
    }
    return {key: value for key, value in pairs.items() if value}


def _named(kind: str, found: Mapping[str, str] | None) -> dict[str, str]:
    return {f"{kind}.{key}": value for key, value in (found or {}).items()}


def _resources(found: Resources | None) -> dict[str, str]:
    return {"memory": found.memory, "cpu": found.cpu} if found else {}
