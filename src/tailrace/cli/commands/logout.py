"""``tailrace logout``: forget a gateway's password."""

from __future__ import annotations

import os

from tailrace.cli.options import AsJson, Gateway
from tailrace.cli.result import Result, finish
from tailrace.errors import NotFound


def command(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Forget the password of a gateway, in ~/.openfaas/config.yml, which faas-cli reads too.

    \b
    Examples:
      tailrace logout --gateway https://fn.example.com
    """
    from tailrace.cli.credentials import forget
    from tailrace.gateway_url import DEFAULT_GATEWAY, parse_gateway

    url, _ = parse_gateway(gateway or DEFAULT_GATEWAY)
    if not forget(url, os.environ):
        raise NotFound(f"no password is kept for {url}")
    finish(Result(f"forgot the password for {url}", {"gateway": url}), as_json=as_json)
