"""``tailrace up``: gateway, functions and their logs in one terminal; a save is deployed."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli import settingflags as flags
from tailrace.cli.options import Builtin, Envsubst, Filter, Regex, StackFile, TagMode
from tailrace.cli.result import Result, finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from tailrace.cli.devloop import Extras
    from tailrace.cli.logview import LogView
    from tailrace.cli.outlet import Outlet
    from tailrace.cli.stackfile import Stack, StackFunction
    from tailrace.cli.startlines import StartLines
    from tailrace.functions.logs import LogStore
    from tailrace.functions.table import Table
    from tailrace.names import FunctionName
    from tailrace.settings import Settings

    Read = Callable[[], tuple[Stack, tuple[StackFunction, ...]]]

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Model(enum.StrEnum):
    """What ``--llm`` runs beside the functions."""

    LOCAL = "local"
    MOCK = "mock"


@flags.takes_settings("host", "port", "auth", "state_dir", "log_format", "metrics_port")
def command(
    file: StackFile = None,
    filter: Filter = None,
    regex: Regex = None,
    envsubst: Envsubst = True,
    builtin: Builtin = True,
    llm: Annotated[
        Model | None, typer.Option("--llm", help="Run a small local model, or a mock, for the functions.")
    ] = None,
    **options: object,
) -> None:
    """Run a stack file's functions on this machine, show their logs, and deploy every save.

    Streams that are running finish on the old code. Ctrl-C stops everything. A secret is the text of
    .secrets/NAME beside the stack file; what the gateway kept of it is removed at the end. Settings
    without an option here come from the environment, as TAILRACE_<NAME>.

    \b
    Examples:
      tailrace up
      tailrace up --llm local        with a small language model that needs no key
      tailrace up -f stack.yaml --port 8081
    """
    from tailrace.cli.imagetags import as_chosen
    from tailrace.cli.signals import run_until_stopped
    from tailrace.cli.stackfile import find_stack_file, load_stack
    from tailrace.settings import load

    path = find_stack_file(file, Path.cwd())

    def read() -> tuple[Stack, tuple[StackFunction, ...]]:
        stack = load_stack(path, os.environ, expand=envsubst)
        found = stack.select(pattern=filter, regex=regex)
        return stack, as_chosen(found, tag=TagMode.LATEST, builtin=builtin, folder=path.parent)

    read()  # a mistake in the stack file is told before anything starts
    settings = load(flags.given(options))
    result = run_until_stopped(run(settings, read, llm))
    finish(Result(result.text, exit_code=result.exit_code))


async def run(settings: Settings, read: Read, llm: Model | None) -> None:
    """Everything of `up`, until it is cancelled."""
    import asyncio
    import functools

    from tailrace.cli.calllines import as_they_are, as_words_of_ours
    from tailrace.cli.devloop import DevLoop, Screen
    from tailrace.cli.logview import LogView
    from tailrace.cli.outlet import open_outlet
    from tailrace.cli.startlines import StartLines
    from tailrace.cli.terminal import paint_for
    from tailrace.client import open_client
    from tailrace.gateway import open_gateway

    paint = paint_for(sys.stdout, os.environ)
    secrets: set[tuple[str, str]] = set()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_forgetting(secrets, settings.state_dir))
        out = await stack.enter_async_context(open_outlet(sys.stdout.fileno()))
        view = LogView(out, paint)
        gateway = await stack.enter_async_context(
            open_gateway(
                settings,
                persistent=False,
                calls=(as_they_are if settings.log_format == "json" else as_words_of_ours)(view, out),
                may_move_metrics=settings.sources["metrics_port"] == "default",
            )
        )
        view.say("tailrace", f"{paint.bold(gateway.url)}  Ctrl-C stops everything")
        if gateway.metrics.moved_because:
            moved = f"metrics at {gateway.metrics.url}: {gateway.metrics.moved_because}"
            view.say("tailrace", paint.dim(moved))
        if gateway.new_password:
            view.say("tailrace", f"user admin, password {gateway.new_password} (shown only now)")
        extras = await stack.enter_async_context(_extras(llm, view))
        authorization = f"Bearer {gateway.admin_token}" if gateway.admin_token else ""
        client = await stack.enter_async_context(open_client(gateway.url, authorization=authorization))
        start_lines = StartLines(functools.partial(_takes_calls, gateway.table))
        loop = DevLoop(
            client,
            Screen(view, paint, start_lines),
            read=functools.partial(_read_noting, read, secrets),
            extras=extras,
            limit_bytes=settings.bundle_limit,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(_show_logs(gateway.logs, view, out, start_lines))
            group.create_task(loop.run())
            group.create_task(out.wait_lost())


def _read_noting(read: Read, secrets: set[tuple[str, str]]) -> tuple[Stack, tuple[StackFunction, ...]]:
    """What is read, the secrets that its functions name added to these."""
    found = read()
    secrets.update((f.name.namespace, secret) for f in found[1] for secret in f.secrets)
    return found


@contextlib.contextmanager
def _forgetting(secrets: set[tuple[str, str]], state_dir: Path) -> Iterator[None]:
    """Remove these secrets, by namespace and name, once the gateway is gone; those from before it stay."""
    from tailrace.errors import PlatformError, StateTaken
    from tailrace.provider.process.secrets import SecretFiles
    from tailrace.state import open_state

    folder = state_dir.expanduser() / "secrets"
    files = SecretFiles(folder)
    before = (
        {(namespace, name) for namespace in files.namespaces() for name in files.list(namespace)}
        if folder.is_dir()
        else set()
    )
    try:
        yield
    finally:
        made = secrets - before
        if made:
            with contextlib.suppress(PlatformError, StateTaken), open_state(state_dir):
                for namespace, name in made:
                    files.remove(namespace, name)


async def _show_logs(logs: LogStore, view: LogView, out: Outlet, start_lines: StartLines) -> None:
    from tailrace.cli.logview import piece_of

    with logs.follow() as lines:
        async for line in lines:
            if start_lines.take(line):
                view.show(piece_of(line))
                await out.wait_room()


def _takes_calls(table: Table, name: FunctionName, instance: str) -> bool:
    function = table.get(name)
    return function is not None and any(replica.id == instance for replica in function.ready)


@contextlib.asynccontextmanager
async def _extras(llm: Model | None, view: LogView) -> AsyncIterator[Extras]:
    """The model beside the functions, as their environment and secret."""
    from tailrace.cli.devloop import Extras

    if llm is None:
        yield Extras()
        return
    from tailrace.llm.running import running_llm

    def tell(line: str) -> None:
        view.say("tailrace", line)

    async with running_llm("local" if llm is Model.LOCAL else "mock", tell=tell) as endpoint:
        view.say("tailrace", f"model {endpoint.model} at {endpoint.base_url}")
        env = {**endpoint.env, **direct_to_loopback(os.environ)}
        yield Extras(env, {"openai-api-key": endpoint.api_key.encode()})


def direct_to_loopback(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that keep a function's calls of the model from a proxy, which cannot reach this loopback.

    Empty where no proxy is set. What else goes past the proxy stays as it is.
    """
    if not any(value for key, value in env.items() if key.lower() in _PROXIES):
        return {}
    own = env.get("no_proxy") or env.get("NO_PROXY") or ""
    direct = "*" if own.strip() == "*" else ",".join([*([own] if own else []), *_LOOPBACK])
    return {"NO_PROXY": direct, "no_proxy": direct}
