"""Who may use the control plane. Everything is protected unless a route is in `PUBLIC`.

Without auth (loopback only) any web page can reach the port, so a request must come from this machine's
own names and from no foreign page. With auth the admin's password decides. Both answer before a body is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace.edge.routes import is_data_plane
from tailrace.errors import PlatformError
from tailrace.state import write_atomically

USER = "admin"
# With auth on, these answer anybody.
PUBLIC = frozenset(("/healthz",))
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?", re.IGNORECASE)


def refusal_without_auth(host: str, origin: str, fetch_site: str) -> str:
    """Why a request to an unprotected loopback gateway is refused; empty when it is not.

    ``host`` guards against a DNS name that was rebound to loopback, the other two against a web page.
    """
    if not _LOOPBACK.fullmatch(host):
        return (
            f"Host '{host[:100]}' is not this machine's own name. Without auth only 127.0.0.1, localhost "
            "and [::1] are answered; start with --auth to use another name."
        )
    if origin and not _LOOPBACK.fullmatch(re.sub(r"^https?://", "", origin)):
        return f"requests from the web page '{origin[:100]}' are refused without auth; start with --auth."
    if fetch_site in ("cross-site", "same-site"):
        return "requests from another web page are refused without auth; start with --auth."
    return ""


@dataclass(frozen=True, slots=True)
class Auth:
    """The admin's password as SHA-256, and a token that only this process knows."""

    password_sha256: bytes
    token: str

    def accepts(self, authorization: str) -> bool:
        """Whether an Authorization header is the admin's. Compared in constant time."""
        kind, _, value = authorization.partition(" ")
        if kind.lower() == "bearer":
            return hmac.compare_digest(value.encode(), self.token.encode())
        if kind.lower() != "basic":
            return False
        try:
            user, colon, password = base64.b64decode(value, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        given = hashlib.sha256(password).digest()
        same = hmac.compare_digest(given, self.password_sha256)
        return bool(colon) and hmac.compare_digest(user, USER.encode()) and same


def open_auth(state_dir: Path) -> tuple[Auth, str | None]:
    """The admin's password of a state directory, and its text if it was made just now (128 random bits).

    Only its SHA-256 is kept, in a file of mode 0600.

    Raises:
        PlatformError: the file is damaged.
    """
    path = state_dir / "admin.json"
    token = secrets.token_urlsafe(32)
    if path.exists():
        try:
            digest = bytes.fromhex(json.loads(path.read_bytes())["password_sha256"])
        except (ValueError, KeyError, TypeError):
            raise PlatformError(
                f"'{path}' does not hold a password's SHA-256",
                hint="Remove it; the next start makes a new password.",
            ) from None
        return Auth(digest, token), None
    password = secrets.token_urlsafe(16)
    digest = hashlib.sha256(password.encode()).digest()
    write_atomically(path, json.dumps({"password_sha256": digest.hex()}).encode())
    return Auth(digest, token), password


class Guard:
    """ASGI middleware around the whole control plane. ``auth`` None: loopback without credentials."""

    def __init__(self, app: ASGIApp, auth: Auth | None) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refused = self._refuse(Request(scope))
        if refused is not None:
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        headers = request.headers
        if is_data_plane(request.url.path):
            return None
        if self._auth is None:
            why = refusal_without_auth(
                headers.get("host", ""), headers.get("origin", ""), headers.get("sec-fetch-site", "").lower()
            )
            return PlainTextResponse(f"{why}\n", 403) if why else None
        if request.url.path in PUBLIC or self._auth.accepts(headers.get("authorization", "")):
            return None
        # Body and realm are OpenFaaS's: clients depend on them (contract 1.1).
        realm = {"WWW-Authenticate": 'Basic realm="Restricted"'}
        return PlainTextResponse("invalid credentials", 401, headers=realm)
