"""``tailrace version``."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tailrace import __version__
from tailrace.cli.datapath import data_path
from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish

if TYPE_CHECKING:
    from tailrace.client import Client


def command(
    server: Annotated[bool, typer.Option("--server", help="Ask the gateway for its version too.")] = False,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print the version, and with --server the gateway's."""
    python, path = platform.python_version(), data_path()
    text = f"tailrace {__version__} (Python {python}, {sys.platform} {platform.machine()}, data path: {path})"
    data = {"tailrace": __version__, "python": python, "dataPath": path}
    if not server:
        finish(Result(text, data), as_json=as_json)
    from tailrace.cli.session import with_client

    async def use(client: Client) -> Result:
        info = await client.info()
        shown = f"{text}\ngateway {info.version.release} at {client.url} ({info.provider.provider})"
        return Result(shown, {**data, "gateway": info.version.release})

    finish(with_client(gateway, use), as_json=as_json)
