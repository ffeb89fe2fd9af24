"""Replicas as child processes of the gateway, on unix sockets, in environments that uv builds."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from tailrace.build.bundle import Process, bundle_requirements, read_manifest
from tailrace.build.environment import Environment, Environments, Tell
from tailrace.build.indexes import PackageIndex
from tailrace.build.requirements import Requirements
from tailrace.build.store import BundleStore
from tailrace.build.templates import find_template
from tailrace.errors import EnvironmentFailed, InvalidBundle, InvalidDeployment, PlatformError
from tailrace.model import FunctionSpec, LogLine, Namespace
from tailrace.names import FunctionName
from tailrace.options import read_options
from tailrace.provider.contract import LogSink
from tailrace.provider.process.namespaces import NamespaceFiles
from tailrace.provider.process.replica import Boot, Launch, Replica
from tailrace.provider.process.runtime import RuntimeCopy, find_runtime
from tailrace.provider.process.secrets import SecretFiles
from tailrace.provider.process.specs import SpecFiles
from tailrace.settings import Settings
from tailrace.state import State, remove_tree

logger = logging.getLogger(__name__)

_REPLICA_ID = re.compile(r"[a-z0-9-]{1,24}")
_PASSED = frozenset({"PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"})
_VARIABLE = re.compile(r"[^=\0]+")


class ProcessProvider:
    """The provider of one machine. Owns every process it started until `aclose`.

    Args:
        persistent: False neither restores nor saves deployments; bundles and secrets are kept either way.
        runtime: The runtime package's folder; None is the one installed beside tailrace.
        env: Where variables for replicas and the installer come from; None is this process's environment.
    """

    def __init__(
        self, state: State, *, settings: Settings, log: LogSink, persistent: bool,
        runtime: Path | None = None, env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.bundles = BundleStore(state.bundles, limit_bytes=settings.bundle_limit)
        self._state = state
        self._log = log
        self._persistent = persistent
        self._load_timeout_s = settings.load_timeout_s
        self._env = dict(os.environ if env is None else env)
        self._runtime = RuntimeCopy(state.runtime, runtime or find_runtime())
        self._environments = Environments(
            state.environments, runtime=self._runtime.requirements(), env=self._env
        )
        # For functions that bring their own server: nothing of ours is in theirs.
        self._plain_environments = Environments(state.environments, runtime=Requirements(()), env=self._env)
        self._specs = SpecFiles(state.functions)
        self._namespaces = NamespaceFiles(state.namespaces)
        self._secrets = SecretFiles(state.secrets)
        self._replicas: dict[str, tuple[Replica, str]] = {}
        self._is_closed = False

    @property
    def name(self) -> str:
        return "process"

    async def prepare(self, spec: FunctionSpec) -> None:
        await self._prepare(spec)

    async def start(self, spec: FunctionSpec, replica_id: str) -> Replica:
        """As the contract says; and InvalidDeployment for a missing secret or an unknown lang."""
        if not _REPLICA_ID.fullmatch(replica_id):
            raise PlatformError(f"'{replica_id}' cannot be a replica's id")
        process = read_manifest(self.bundles.path(spec.bundle)).process
        kind = "watchdog" if process else find_template(self.bundles.lang(spec.bundle)).kind
        bundle, runtime, environment = await self._prepare(spec)
        folder = self._state.replicas / replica_id
        secrets = await asyncio.to_thread(self._find_secrets, spec)
        env = self._replica_env(spec, environment, folder, process)
        # The watchdog runs on the gateway's own interpreter; the function's is only its process's.
        python = Path(sys.executable) if process or environment is None else environment.python
        worker = read_options(spec.annotations, spec.labels, spec.env).worker
        root = bundle
        if not spec.read_only_root_filesystem:  # last, so that nothing but the spawn can fail after it
            root = await _copied(bundle, folder)
        boot = Boot(
            function=str(spec.name),
            instance=replica_id,
            socket=str(self._state.sockets / f"{replica_id}.sock"),
            kind=kind,
            root=str(root),
            worker=worker,
            secrets=secrets,
            folder=str(folder),
        )
        launch = Launch(spec.name, python, runtime, folder, env, boot)
        replica = await Replica.spawn(launch, self._log)
        self._replicas[replica_id] = replica, spec.bundle
        try:
            if self._is_closed:
                raise PlatformError("the gateway is stopping")
            await replica.wait_loaded(self._load_timeout_s)
        except BaseException:
            await replica.stop(0)
            raise
        finally:
            self._drop_ended()
        return replica

    async def load_specs(self) -> list[FunctionSpec]:
        if not self._persistent:
            return []
        return await asyncio.to_thread(self._specs.load, refused=self._refuse)

    async def save_spec(self, spec: FunctionSpec) -> None:
        if self._persistent:
            await asyncio.to_thread(self._specs.save, spec)

    async def forget_spec(self, name: FunctionName) -> None:
        if self._persistent:
            await asyncio.to_thread(self._specs.forget, name)

    async def list_namespaces(self) -> list[Namespace]:
        return await asyncio.to_thread(self._namespaces.load)

    async def save_namespace(self, namespace: Namespace) -> None:
        await asyncio.to_thread(self._namespaces.save, namespace)

    async def forget_namespace(self, name: str) -> bool:
        return await asyncio.to_thread(self._namespaces.forget, name)

    async def list_secrets(self, namespace: str) -> list[str]:
        return await asyncio.to_thread(self._secrets.list, namespace)

    async def list_secret_namespaces(self) -> list[str]:
        return await asyncio.to_thread(self._secrets.namespaces)

    async def set_secret(
        self, namespace: str, name: str, value: bytes, *, is_there: bool | None = None
    ) -> bool:
        return await asyncio.to_thread(self._secrets.set, namespace, name, value, is_there=is_there)

    async def remove_secret(self, namespace: str, name: str) -> bool:
        return await asyncio.to_thread(self._secrets.remove, namespace, name)

    async def prune(self, wished: Collection[str]) -> list[str]:
        """Remove bundles that no tag, saved deployment, replica or digest of wished refers to."""
        saved = await asyncio.to_thread(self._specs.load, refused=lambda _name, _why: None)
        self._drop_ended()
        running = {bundle for _, bundle in self._replicas.values()}
        return await self.bundles.prune({*wished, *running, *(spec.bundle for spec in saved)})

    async def aclose(self) -> None:
        self._is_closed = True
        await asyncio.gather(*(replica.stop(0) for replica, _ in self._replicas.values()))
        self._replicas.clear()

    async def _prepare(self, spec: FunctionSpec) -> tuple[Path, Path, Environment | None]:
        """Its bundle, the runtime, and its environment; none for a process that names no requirements."""
        root = self.bundles.path(spec.bundle)
        try:
            manifest = await asyncio.to_thread(read_manifest, root)
            wanted = await asyncio.to_thread(bundle_requirements, root, manifest)
        except InvalidBundle as exc:
            raise EnvironmentFailed(exc.message, hint=exc.hint) from exc
        runtime = await self._runtime.ensure()
        process = manifest.process
        if process is not None and not process.requirements:
            return root, runtime, None
        environments = self._environments if process is None else self._plain_environments
        environment = await environments.ensure(
            wanted, name=spec.name.short, tell=lambda text: self._tell(spec.name, text)
        )
        return root, runtime, environment

    async def install(
        self, requirements: Requirements, *, is_process: bool, name: str, tell: Tell, show: Tell,
        index: PackageIndex | None,
    ) -> None:  # fmt: skip
        """Build the environment that a bundle will ask for, before anybody deploys it.

        Raises:
            EnvironmentFailed: the requirements cannot be installed.
        """
        environments = self._plain_environments if is_process else self._environments
        await environments.ensure(requirements, name=name, tell=tell, show=show, index=index)

    def _refuse(self, name: FunctionName, text: str) -> None:
        """A saved deployment is not restored: nobody can ask for the log of what is not there."""
        logger.error("function '%s': %s", name.short, text)
        self._tell(name, text)

    def _tell(self, name: FunctionName, text: str) -> None:
        self._log(LogLine(name, "tailrace", time.time_ns(), f"{text}\n"))

    def _find_secrets(self, spec: FunctionSpec) -> dict[str, str]:
        found = {name: self._secrets.path(spec.name.namespace, name) for name in spec.secrets}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            names = ", ".join(f"'{name}'" for name in missing)
            raise InvalidDeployment(
                f"function '{spec.name.short}' refers to secrets that do not exist: {names}",
                hint=f"Create it: tailrace secret create {missing[0]} --from-file FILE",
            )
        return {name: str(path) for name, path in found.items()}

    def _replica_env(
        self, spec: FunctionSpec, environment: Environment | None, folder: Path, process: Process | None
    ) -> dict[str, str]:
        env = {key: value for key, value in self._env.items() if _is_passed(key)}
        # The function's own python and scripts come first, as in an activated environment.
        own = [str(environment.python.parent)] if environment else []
        env["PATH"] = os.pathsep.join([*own, env.get("PATH") or os.defpath])
        env |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        for key, value in spec.env.items():
            if not _VARIABLE.fullmatch(key) or "\0" in value:
                raise InvalidDeployment(
                    f"function '{spec.name.short}': '{key[:80]!a}' cannot be set as a variable"
                )
        if process is None:
            return env | dict(spec.env)
        # What it prints is logged when it is printed, not once there are 8 KiB of it.
        said = {"PYTHONUNBUFFERED": "1", "mode": process.mode, "upstream_url": process.upstream_url}
        said |= {**process.env, **spec.env}
        return {**env, **said, "fprocess": spec.env_process or said.get("fprocess") or process.fprocess}

    def _drop_ended(self) -> None:
        self._replicas = {key: entry for key, entry in self._replicas.items() if not entry[0].is_ended}


def _copy_file(source: str, target: str) -> None:
    """A file that can be written, and run where the bundle's can: a compiled binary is its own process."""
    shutil.copyfile(source, target)
    if Path(source).stat().st_mode & stat.S_IXUSR:
        Path(target).chmod(0o700)


async def _copied(bundle: Path, folder: Path) -> Path:
    """A replica's own copy of its bundle: what a handler writes there ends with it, as in a container.

    The store's bundles are read-only, but not to root, and are shared by every replica of a digest. Who is
    cancelled waits for the copy, because a thread cannot be stopped, and leaves nothing of the folder.
    """
    copying = asyncio.ensure_future(asyncio.to_thread(_copy_for_writing, bundle, folder / "root"))
    try:
        return await asyncio.shield(copying)
    except BaseException:
        await asyncio.gather(copying, return_exceptions=True)
        await asyncio.to_thread(remove_tree, folder)
        raise


def _copy_for_writing(bundle: Path, root: Path) -> Path:
    shutil.copytree(bundle, root, copy_function=_copy_file)
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o700)
    return root


def _is_passed(key: str) -> bool:
    return key in _PASSED or key.upper().endswith("_PROXY")
