"""``/system/functions`` and ``/system/function/NAME``: deploy, update, delete, list, describe."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.control.bundles import digest_of
from tailrace.control.parts import Parts, function_of, json_reply, namespace_of, parts, read_json
from tailrace.control.usage import read_used
from tailrace.errors import InvalidDeployment, InvalidRequest, NotFound
from tailrace.functions.plan import PROVEN_S
from tailrace.functions.table import Function
from tailrace.model import FunctionSpec, Resources
from tailrace.names import FunctionName, check_function_name, check_pairs, is_secret_name
from tailrace.wire import openfaas

# Below the 60 s after which faas-cli and most proxies give up.
WAIT_LIMIT_S = 55.0
# Long enough that a clock tick of 10 ms is a tenth of it.
USAGE_S = 0.1
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Quantities and labels as Kubernetes has them, so that a deployment means the same on OpenFaaS.
_QUANTITY = re.compile(r"\+?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d{1,2})?", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PREFIX_LIMIT = 253


async def post(request: Request) -> Response:
    """Deploy a function that is not there yet."""
    return await _deploy(request, is_there=False)


async def put(request: Request) -> Response:
    """Update a function. 404 when it is not there: faas-cli then sends POST."""
    return await _deploy(request, is_there=True)


async def _deploy(request: Request, *, is_there: bool) -> Response:
    deployment = await read_json(request, openfaas.FunctionDeployment)
    here = parts(request)
    name = check_function_name(deployment.service, deployment.namespace)
    if is_there and here.table.get(name) is None:  # before the rest is looked at: faas-cli counts on the 404
        raise NotFound(f"function '{name.short}' is not deployed")
    spec = await _spec_of(here, name, deployment)
    await here.reconciler.deploy(spec, is_there=is_there)
    return Response(status_code=202, headers={"X-Tailrace-Revision": spec.revision})


async def _spec_of(here: Parts, name: FunctionName, deployment: openfaas.FunctionDeployment) -> FunctionSpec:
    if not deployment.image:
        raise InvalidDeployment("validation failed: image: is required")
    env = deployment.env_vars or {}
    for key, value in env.items():
        if not _ENV_NAME.fullmatch(key) or "\0" in value:
            raise InvalidDeployment(
                f"validation failed: environment variable '{key[:80]}' has an illegal name"
            )
    check_pairs("label", deployment.labels or {})
    check_pairs("annotation", deployment.annotations or {}, with_lines=True)
    for label in deployment.labels or {}:
        _check_label(label)
    limits, requests = _resources("limits", deployment.limits), _resources("requests", deployment.requests)
    secrets = tuple(deployment.secrets or ())
    await _check_secrets(here, name, secrets)
    try:
        bundle = await digest_of(here, deployment.image)
    except NotFound as missing:  # a 404 would tell faas-cli that the function is not there
        raise InvalidDeployment(missing.message, hint=missing.hint) from None
    return FunctionSpec(
        name=name,
        image=deployment.image,
        bundle=bundle,
        env_process=deployment.env_process,
        env=env,
        labels=deployment.labels or {},
        annotations=deployment.annotations or {},
        secrets=secrets,
        constraints=tuple(deployment.constraints or ()),
        limits=limits,
        requests=requests,
        read_only_root_filesystem=deployment.read_only_root_filesystem,
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


async def _check_secrets(here: Parts, name: FunctionName, secrets: tuple[str, ...]) -> None:
    for secret in secrets:
        if not is_secret_name(secret):
            raise InvalidDeployment(f"validation failed: secret '{secret[:80]}' is not a legal name")
    known = set(await here.provider.list_secrets(name.namespace)) if secrets else set()
    missing = [secret for secret in secrets if secret not in known]
    if missing:
        named = ", ".join(f"'{secret}'" for secret in missing)
        raise InvalidDeployment(
            f"unable to find secret: {named} in namespace '{name.namespace}'",
            hint=f"Create it: tailrace secret create {missing[0]} --from-file FILE",
        )


def _check_label(label: str) -> None:
    prefix, slash, name = label.rpartition("/")
    is_prefix = len(prefix) <= _PREFIX_LIMIT and _LABEL_PREFIX.fullmatch(prefix) is not None
    if not _LABEL_NAME.fullmatch(name) or (slash and not is_prefix):
        raise InvalidDeployment(
            f"validation failed: label '{label[:80]}' is no legal key",
            hint="Expected: up to 63 letters, digits, '-', '_' and '.', after example.com/ if you like.",
        )


def _resources(kind: str, given: openfaas.Resources | None) -> Resources | None:
    if given is None:
        return None
    for name, value in msgspec.to_builtins(given).items():
        if value and not _QUANTITY.fullmatch(value):
            raise InvalidDeployment(
                f"validation failed: {kind}: {name} '{value[:40]}' is no quantity",
                hint="Expected: a number, as in 128Mi, 1Gi or 500M of memory, 0.5 or 500m of cpu.",
            )
    return Resources(given.memory, given.cpu, given.nvidia_gpu, given.amd_gpu, given.intel_gpu)


def _resources_sent(kept: Resources | None) -> openfaas.Resources | None:
    if kept is None:
        return None
    return openfaas.Resources(kept.memory, kept.cpu, kept.nvidia_gpu, kept.amd_gpu, kept.intel_gpu)


async def delete(request: Request) -> Response:
    """Remove a function. The namespace may stand in the body (faas-cli) or the query (its UI)."""
    wanted = await read_json(request, openfaas.DeleteFunctionRequest)
    name = check_function_name(wanted.function_name, namespace_of(request, wanted.namespace))
    await parts(request).reconciler.remove(name)
    return Response(status_code=202)


async def get_all(request: Request) -> Response:
    """The functions of one namespace, with their invocation counts."""
    namespace = namespace_of(request)
    here = parts(request)
    return json_reply(
        [_status(here, f, with_invocations=True) for f in here.table if f.name.namespace == namespace]
    )


async def get_one(request: Request) -> Response:
    """One function. ``?wait=SECONDS[&revision=REV]`` answers once that revision is ready or has failed."""
    here = parts(request)
    try:
        function = function_of(request)
    except NotFound:
        return Response(status_code=404)
    wait_s = _wait_s(request.query_params.get("wait", "0"))
    if wait_s and request.query_params.get("revision", function.spec.revision) == function.spec.revision:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await function.settled.wait()
    status = _status(here, function, with_invocations=False)
    if request.query_params.get("usage", "").lower() in ("1", "true"):
        status.usage = await _usage(function)
    return json_reply(status)


async def _usage(function: Function) -> openfaas.Usage | None:
    """What its replicas use with all their processes, their CPU over the next tenth of a second.

    None where that is not known.
    """
    pids = [replica.handle.pid for replica in function.replicas.values() if replica.handle is not None]
    before, began = await asyncio.to_thread(read_used, pids), time.monotonic()
    await asyncio.sleep(USAGE_S)
    after, took_s = await asyncio.to_thread(read_used, pids), time.monotonic() - began
    both = [(before[pid], now) for pid, now in after.items() if pid in before]
    if not both:
        return None
    # Less than before: a child has ended whose parent does not wait for it.
    cpu_s = sum(max(0.0, new.cpu_s - old.cpu_s) for old, new in both)
    memory = sum(new.memory_bytes for _, new in both)
    return openfaas.Usage(cpu=round(cpu_s / took_s * 1000, 1) or 0, total_memory_bytes=memory)


def _wait_s(text: str) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= WAIT_LIMIT_S:
        raise InvalidRequest(f"wait={text[:40]} is not a number of seconds from 0 to {WAIT_LIMIT_S:g}")
    return wait_s


def _status(here: Parts, function: Function, *, with_invocations: bool) -> openfaas.FunctionStatus:
    spec = function.spec
    return openfaas.FunctionStatus(
        name=spec.name.name,
        image=spec.image,
        created_at=spec.created_at,
        namespace=spec.name.namespace,
        env_process=spec.env_process,
        env_vars=dict(spec.env) or None,
        constraints=list(spec.constraints) or None,
        secrets=list(spec.secrets) or None,
        labels=dict(spec.labels),
        annotations=dict(spec.annotations),
        limits=_resources_sent(spec.limits),
        requests=_resources_sent(spec.requests),
        read_only_root_filesystem=spec.read_only_root_filesystem,
        invocation_count=function.invocations if with_invocations else 0,
        replicas=function.wished,
        available_replicas=len(function.ready),
        tailrace=_tailrace_status(here, function),
    )


def _next_call(function: Function) -> str:
    schedule = function.options.schedule
    return schedule.next_after(datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ") if schedule else ""


def _tailrace_status(here: Parts, function: Function) -> openfaas.TailraceStatus:
    now = here.clock()
    current = [r for r in function.ready if r.revision == function.spec.revision]
    proven = any(now - r.since >= PROVEN_S for r in current)
    if not function.wished:
        state = "idle"
    elif current:
        state = "ready"
    elif function.last_error:
        state = "failed"
    else:
        state = "updating" if function.ready else "starting"
    return openfaas.TailraceStatus(
        revision=function.spec.revision,
        state=state,
        settled=function.settled.is_set(),
        last_error="" if proven else function.last_error,
        failures=0 if proven else function.failures,
        start_s=round(function.start_s, 3),
        import_s=round(function.import_s, 3),
        next_call=_next_call(function),
        replicas=[
            openfaas.ReplicaStatus(
                id=r.id,
                state=r.state,
                revision=r.revision,
                in_flight=r.in_flight,
                pid=r.handle.pid if r.handle else 0,
                age_s=round(now - r.since, 1),
            )
            for r in function.replicas.values()
        ],
    )
