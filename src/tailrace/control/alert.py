"""``/system/alert``: Alertmanager scales functions up while an alert fires, and back after it."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tailrace.control.parts import Parts, parts, read_json
from tailrace.errors import InvalidRequest, NotFound, TailraceError
from tailrace.names import parse_function_name
from tailrace.wire import openfaas

logger = logging.getLogger(__name__)


async def post(request: Request) -> Response:
    """Follow each alert that names a function; else 400 with a line for each that could not be followed.

    OpenFaaS answers 500, for which Alertmanager would send the same again and again.
    """
    notice = await read_json(request, openfaas.AlertNotice)
    here = parts(request)
    failed: list[str] = []
    for number, alert in enumerate(notice.alerts):
        await asyncio.sleep(0)  # a notice of thousands stops nobody's stream
        try:
            await _follow(here, alert, notice.status)
        except TailraceError as error:
            failed.append(f"[{number}] {error.message}")
    if failed:
        count = len(failed)
        logger.warning(
            "%d of %d alerts are not followed; the first: %s", count, len(notice.alerts), failed[0]
        )
        return PlainTextResponse("\n".join([*failed, ""]), 400)
    return Response(status_code=200)


async def _follow(here: Parts, alert: openfaas.Alert, status: str) -> None:
    status = alert.status or status
    if status not in ("firing", "resolved"):
        raise InvalidRequest(f"status '{status[:40]}' is neither firing nor resolved")
    name = parse_function_name(alert.labels.function_name)
    function = here.table.get(name) if name else None
    if function is None:
        raise NotFound(f"function '{alert.labels.function_name[:80]}' is not deployed")
    await here.reconciler.follow_alert(function.name, is_firing=status == "firing")
