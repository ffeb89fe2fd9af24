"""Frozen values that several parts of the house pass to each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tailrace.names import FunctionName


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits or requests as OpenFaaS writes them: Kubernetes quantities, kept as their source text."""

    memory: str = ""
    cpu: str = ""
    nvidia_gpu: str = ""
    amd_gpu: str = ""
    intel_gpu: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace that somebody made, with what they wrote about it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """What a deploy asks for, validated: the wish that the reconcile loop fulfils.

    ``bundle`` is the SHA-256 (64 hex digits) of the handler's bundle that ``image`` meant at the moment
    of the deploy, so a restart runs the same code even when the tag has moved on since.
    ``created_at`` is RFC 3339 in UTC. ``replicas`` is the count that somebody scaled it to; None: as many as
    its labels ask for at least. Neither is part of the revision.
    """

    name: FunctionName
    image: str
    bundle: str
    env_process: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False
    created_at: str = "0001-01-01T00:00:00Z"
    replicas: int | None = None

    @property
    def revision(self) -> str:
        """12 hex digits that change when anything a replica can see changes."""
        seen = [
            str(self.name),
            self.bundle,
            self.env_process,
            sorted(self.env.items()),
            sorted(self.annotations.items()),
            sorted(self.secrets),
            [self.limits.memory, self.limits.cpu] if self.limits else [],
            self.read_only_root_filesystem,
        ]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a function or the platform wrote about it.

    ``text`` ends in a newline unless the writer flushed an unfinished line. ``call_id`` is empty for what
    was written outside a call. ``instance`` is the replica's id, or ``tailrace`` for the platform's own
    words (progress of an environment, a crash).
    """

    function: FunctionName
    instance: str
    timestamp_ns: int
    text: str
    call_id: str = ""
    stream: str = "stdout"
