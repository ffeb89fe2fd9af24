"""A typed client of the gateway's API, for the CLI, tests and programs.

    async with open_client("http://127.0.0.1:8080") as client:
        await client.deploy(deployment)

Streams that resume are functions beside it: `stream`, `attach`, `stop`; `tailrace.client.sync` has them for
programs that do not await.

Whatever httpx or the gateway reports becomes an error of our tree, in `connection` and `Reply.chunks`.
"""

from tailrace.client.calls import SHORT_CALL_ID, Call, Reply, check_call
from tailrace.client.client import Client, open_client
from tailrace.client.functions import Deployed
from tailrace.client.steps import Resume
from tailrace.client.streams import Stream, attach, stop, stream
from tailrace.wire.runs import RunRecord

__all__ = [
    "SHORT_CALL_ID", "Call", "Client", "Deployed", "Reply", "Resume", "RunRecord", "Stream", "attach",
    "check_call", "open_client", "stop", "stream",
]  # fmt: skip
