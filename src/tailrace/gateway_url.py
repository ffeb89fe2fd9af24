"""The gateway's address as people write it, and the credentials it may carry. Pure."""

from __future__ import annotations

import base64
from urllib.parse import unquote, urlsplit

from tailrace.errors import InvalidRequest

DEFAULT_GATEWAY = "http://127.0.0.1:8080"


def parse_gateway(text: str) -> tuple[str, str]:
    """The gateway's URL without user, password and closing slash, and the Authorization they make."""
    try:
        # urlsplit drops some control characters without a word.
        if not text.isprintable() or " " in text:
            raise ValueError
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise InvalidRequest(
            "the gateway's address is no URL that can be used", hint=f"It looks like {DEFAULT_GATEWAY}."
        )
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    if not parts.username:
        return url, ""
    return url, basic(unquote(parts.username), unquote(parts.password or ""))


def basic(user: str, password: str) -> str:
    """The Authorization header of a user and password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def is_local(url: str) -> bool:
    """Whether the URL means this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1", "::", "0.0.0.0") or host.startswith("127.")  # noqa: S104
