"""From a function of the stack file to one that answers: pack, upload, deploy, wait, and what came of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from tailrace.build.bundle import Bundle, pack_folder
from tailrace.build.context import assemble, handler_process, read_context
from tailrace.build.store import with_tag
from tailrace.cli.stackfile import StackFunction
from tailrace.client import Client
from tailrace.model import Resources
from tailrace.wire import openfaas


@dataclass(frozen=True, slots=True)
class Package:
    """A function ready to be sent. ``bundle`` is None when the stack file only names an image."""

    function: StackFunction
    bundle: Bundle | None
    deployment: openfaas.FunctionDeployment

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
        InvalidBundle, TooLarge: the folder cannot be packed.
    """
    bundle = _bundle(function, function.handler, limit_bytes) if function.handler is not None else None
    function = replace(function, env={**extra_env, **function.env})
    return Package(function, bundle, deployment_of(function))


def _bundle(function: StackFunction, handler: Path, limit_bytes: int) -> Bundle:
    """A handler of ours as it lies there; anything else as a build context, or by its fprocess."""
    if function.template is None and not function.copies:
        process = None if function.lang else handler_process(function.fprocess, dict(function.env))
        return pack_folder(handler, lang=function.lang or "own", limit_bytes=limit_bytes, process=process)
    with tempfile.TemporaryDirectory(prefix="tailrace-build-") as place:
        folder = Path(place, "context")
        template = function.template or _bare_template(Path(place, "template"), function)
        assemble(template, handler, folder, function.copies)
        return read_context(folder).pack(limit_bytes=limit_bytes)


def _bare_template(place: Path, function: StackFunction) -> Path:
    """A template that only says what the stack file says."""
    place.mkdir()
    said = {"language": function.lang or "own", "fprocess": function.fprocess}
    (place / "template.yml").write_text("".join(f"{key}: {json.dumps(text)}\n" for key, text in said.items()))
    return place


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
