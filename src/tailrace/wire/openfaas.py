"""The JSON of OpenFaaS's gateway API as values. Zero fields are omitted, lists are never null.

Source: openfaas/faas-provider, types/*.go (MIT), described in docs/reference/api.md.
"""

from __future__ import annotations

import msgspec


class Resources(msgspec.Struct, omit_defaults=True):
    memory: str = ""
    cpu: str = ""
    nvidia_gpu: str = msgspec.field(default="", name="nvidia.com/gpu")
    amd_gpu: str = msgspec.field(default="", name="amd.com/gpu")
    intel_gpu: str = msgspec.field(default="", name="intel.com/gpu")


class FunctionDeployment(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Body of POST and PUT ``/system/functions``."""

    service: str
    image: str
    namespace: str = ""
    env_process: str = ""
    env_vars: dict[str, str] | None = None
    constraints: list[str] | None = None
    secrets: list[str] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False


class ReplicaStatus(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One replica, as ``tailrace describe`` shows it. ``state``: starting, ready, draining."""

    id: str
    state: str
    revision: str
    in_flight: int = 0
    pid: int = 0
    age_s: float = msgspec.field(default=0.0, name="ageSeconds")


class TailraceStatus(msgspec.Struct, omit_defaults=True, rename="camel"):
    """What OpenFaaS's shape has no room for; other clients ignore the key.

    ``state``: ``ready`` (the wished revision answers), ``starting`` (no replica answers yet), ``updating``
    (an older revision answers), ``failed`` (the last start failed; it is retried), ``idle`` (scaled to zero;
    the next call starts it). ``settled`` is true once the wished revision is either ready or has failed at
    least once. ``next_call``: RFC 3339, when its schedule calls it next.
    """

    revision: str
    state: str
    settled: bool = False
    last_error: str = ""
    failures: int = 0
    start_s: float = msgspec.field(default=0.0, name="startSeconds")
    import_s: float = msgspec.field(default=0.0, name="importSeconds")
    next_call: str = ""
    replicas: list[ReplicaStatus] = msgspec.field(default_factory=list)


class FunctionStatus(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Reply of ``GET /system/function/NAME`` and item of ``GET /system/functions``."""

    name: str
    image: str
    # Not optional: always written. msgspec writes fields that have no default.
    created_at: str
    namespace: str = ""
    env_process: str = ""
    env_vars: dict[str, str] | None = None
    constraints: list[str] | None = None
    secrets: list[str] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False
    # Whole numbers, also as default: msgspec writes 0.0, and zero is to be absent.
    invocation_count: int | float = 0
    replicas: int = 0
    available_replicas: int = 0
    usage: Usage | None = None
    tailrace: TailraceStatus | None = None


class DeleteFunctionRequest(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Body of DELETE ``/system/functions``."""

    function_name: str
    namespace: str = ""


class ScaleServiceRequest(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Body of POST ``/system/scale-function/NAME``."""

    replicas: int
    service_name: str = ""
    namespace: str = ""


class FunctionNamespace(msgspec.Struct, omit_defaults=True):
    """A namespace: body and reply of ``/system/namespace/NAME``."""

    name: str
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class AlertLabels(msgspec.Struct, omit_defaults=True):
    alertname: str = ""
    function_name: str = ""


class Alert(msgspec.Struct, omit_defaults=True):
    status: str = ""
    labels: AlertLabels = msgspec.field(default_factory=AlertLabels)


class AlertNotice(msgspec.Struct, omit_defaults=True):
    """Body of POST ``/system/alert``: what Alertmanager's webhook sends, as far as it is read."""

    alerts: list[Alert]
    status: str = ""
    receiver: str = ""


class BuildResult(msgspec.Struct):
    """One line of what ``POST /build`` answers. ``status``: in_progress, success or failed."""

    log: list[str]
    image: str = ""
    status: str = "in_progress"
    error: str = ""


class PublicKey(msgspec.Struct):
    """Reply of ``GET /publickey``."""

    key_id: str
    algorithm: str
    public_key: str


class Usage(msgspec.Struct, omit_defaults=True):
    """What a function's replicas use together: CPU in thousandths of a core, memory in bytes."""

    # Whole numbers as default, as above.
    cpu: int | float = 0
    total_memory_bytes: int | float = msgspec.field(default=0, name="totalMemoryBytes")


class StoreFunction(msgspec.Struct, omit_defaults=True):
    """An item of a function store's ``functions.json``. ``images`` by platform: x86_64, arm64, armhf."""

    title: str
    name: str
    description: str = ""
    author: str = ""
    images: dict[str, str] = {}  # msgspec copies it
    repo_url: str = ""
    icon: str = ""
    fprocess: str = ""
    environment: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    read_only_root_filesystem: bool = msgspec.field(default=False, name="readOnlyRootFilesystem")
    # Ours: the template that the gateway's own functions are for.
    lang: str = ""


class Store(msgspec.Struct):
    """A function store: ``functions.json``, its second version."""

    version: str
    functions: list[StoreFunction]


class Secret(msgspec.Struct, omit_defaults=True, rename="camel"):
    """Body of the secrets routes. ``raw_value`` (base64) wins over ``value`` when it is not empty."""

    name: str
    namespace: str = ""
    value: str = ""
    raw_value: str = ""
    # Ours, in the list only: the functions that refer to it.
    functions: list[str] | None = None


class LogMessage(msgspec.Struct, rename="camel"):
    """One line of ``GET /system/logs`` (NDJSON). Every field is always present.

    ``call_id`` and ``stream`` are ours; OpenFaaS's clients ignore them.
    """

    name: str
    namespace: str
    instance: str
    timestamp: str
    text: str
    call_id: str = msgspec.field(default="", name="callId")
    stream: str = "stdout"


class VersionInfo(msgspec.Struct, omit_defaults=True):
    release: str
    sha: str
    commit_message: str = ""


class ProviderInfo(msgspec.Struct):
    provider: str
    orchestration: str
    version: VersionInfo


class GatewayInfo(msgspec.Struct):
    """Reply of ``GET /system/info``; faas-cli panics when either version object is missing."""

    provider: ProviderInfo
    version: VersionInfo
    arch: str
