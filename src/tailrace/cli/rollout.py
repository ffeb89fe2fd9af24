"""From a function of the stack file to one that answers: pack, upload, deploy, wait, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from tailrace.build.bundle import Bundle
from tailrace.build.images import with_tag
from tailrace.cli.packing import pack_code
from tailrace.cli.stackfile import StackFunction
from tailrace.client import Client
from tailrace.errors import InvalidBundle, TailraceError, TooLarge
from tailrace.model import Resources
from tailrace.wire import openfaas


@dataclass(frozen=True, slots=True)
class Package:
    """A function ready to be sent; ``notes`` are what the person should know.

    ``bundle`` is None when the stack file only names an image.
    """

    function: StackFunction
    bundle: Bundle | None
    deployment: openfaas.FunctionDeployment
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> bytes:
        """Changes when the code or anything of the deployment changes."""
        digest = self.bundle.digest if self.bundle else ""
        return digest.encode() + msgspec.json.encode(self.deployment, order="deterministic")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a deploy came to. ``serves_old`` is true when it failed and earlier code still answers."""

    is_ready: bool
    start_s: float = 0.0
    import_s: float = 0.0
    error: str = ""
    serves_old: bool = False
    is_replaced: bool = field(default=False)


def pack(function: StackFunction, *, limit_bytes: int, extra_env: Mapping[str, str]) -> Package:
    """Pack the function's folder. Blocks on the disk: call it off the loop.

    Args:
        extra_env: What the function gets unless the stack file sets it.
    Raises:
        InvalidBundle, TooLarge: the folder cannot be packed, or cannot run without Docker.
    """
    bundle: Bundle | None = None
    notes: tuple[str, ...] = ()
    if function.handler is not None:
        bundle, notes = pack_code(function, limit_bytes=limit_bytes)
    function = replace(function, env={**extra_env, **function.env})
    return Package(function, bundle, deployment_of(function), notes)


def named_after(failed: TailraceError, function: StackFunction) -> TailraceError:
    """An error about a handler folder says whose: a stack file may have many, a filter may pick one."""
    if not isinstance(failed, InvalidBundle | TooLarge):
        return failed
    return type(failed)(f"function '{function.name.short}': {failed.message}", hint=failed.hint)


def deployment_of(function: StackFunction) -> openfaas.FunctionDeployment:
    """The function as the gateway's API takes it."""
    return openfaas.FunctionDeployment(
        service=function.name.name,
        image=with_tag(function.image),
        namespace=function.name.namespace,
        env_process=function.fprocess,
        env_vars=dict(function.env) or None,
        constraints=list(function.constraints) or None,
        secrets=list(function.secrets) or None,
        labels=dict(function.labels),
        annotations=dict(function.annotations),
        limits=_resources(function.limits),
        requests=_resources(function.requests),
        read_only_root_filesystem=function.read_only_root_filesystem,
    )


async def send(client: Client, package: Package) -> str:
    """Upload and deploy; the revision to wait for.

    Two functions may share an image, whose tag means the last upload: send one after the other.
    """
    deployment = package.deployment
    if package.bundle is not None:
        await client.upload_bundle(package.bundle.digest, deployment.image, package.bundle.data)
    return (await client.deploy(deployment)).revision


async def wait_outcome(client: Client, package: Package, revision: str) -> Outcome:
    """Wait until the revision answers, has failed, or was replaced."""
    status = await client.wait_settled(package.function.name, revision)
    own = status.tailrace
    if own is None:  # another provider's gateway: all it tells is how many replicas answer
        return Outcome(is_ready=status.available_replicas > 0)
    if own.revision != revision:
        return Outcome(is_ready=False, error="another deploy replaced it", is_replaced=True)
    if own.state == "ready":
        return Outcome(is_ready=True, start_s=own.start_s, import_s=own.import_s)
    error = own.last_error or "it did not start, and told no reason"
    return Outcome(is_ready=False, error=error, serves_old=status.available_replicas > 0)


def _resources(found: Resources | None) -> openfaas.Resources | None:
    return openfaas.Resources(found.memory, found.cpu) if found else None
