"""The gateway's own page in Chromium: what it says of a call is what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.browser import page
from tests.kit.cli import Shell
from tests.kit.served import Serve

pytestmark = pytest.mark.slow

# Answers 204 at once; with a body it is silent until its caller leaves.
HANDLER = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    asked = await receive()
    if asked["body"]:
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""


def test_an_answer_without_a_body_is_complete_and_a_new_call_is_not_the_stopped_one(tmp_path: Path) -> None:
    """204 is no cut, and the end of a call that another one replaced is not told as the other's."""
    serve = Serve(Shell(tmp_path), tmp_path / "state")
    with serve.start() as (_, url):
        serve.deploy(url, "quiet", HANDLER, lang="python3-asgi")
        with page(f"{url}/ui/") as shown:
            submit = "document.getElementById('call').requestSubmit()"
            timing = "document.getElementById('timing').textContent"
            first = "document.querySelector('#functions button')"
            shown.wait(f"{first} !== null")
            shown.ask(f"{first}.click()")

            shown.ask(submit)
            shown.wait(f"{timing}.startsWith('204, complete after ')")

            shown.ask("document.getElementById('body').value = 'wait'")
            shown.ask(submit)
            shown.ask(submit)
            shown.ask("new Promise((resolve) => setTimeout(resolve, 300))")
            assert "" == shown.ask(timing)
