"""A typed client of the gateway's API, for the CLI, tests and programs.

    async with open_client("http://127.0.0.1:8080") as client:
        await client.deploy(deployment)

Whatever httpx or the gateway reports becomes an error of our tree, in `connection` and `Reply.chunks`.
"""

from tailrace.client.calls import SHORT_CALL_ID, Call, Reply
from tailrace.client.client import Client, open_client
from tailrace.client.functions import Deployed

__all__ = ["SHORT_CALL_ID", "Call", "Client", "Deployed", "Reply", "open_client"]
