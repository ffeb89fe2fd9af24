"""Who may use the control plane. Everything is protected unless its row in `table` says that it is public.

Without auth (loopback only) any web page can reach the port, so a request must come from this machine's
own names and from no foreign page. With auth the admin's password decides, and who gives too many wrong ones
waits; a browser that remembers the password gives it to any page's request too, so no foreign page may change
anything. All of it is answered before a body is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace.addresses import without_default_port
from tailrace.control.tries import Tries
from tailrace.edge.routes import is_data_plane
from tailrace.errors import PlatformError
from tailrace.state import write_atomically

USER = "admin"
# Where OpenFaaS's gateway keeps its credentials, below `secret_mount_path`. Source: contract 1.1.
USER_FILE, PASSWORD_FILE = "basic-auth-user", "basic-auth-password"
_CREDENTIAL_LIMIT = 4096
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


def refusal_of_foreign_page(method: str, *, host: str, origin: str, fetch_site: str) -> str:
    """Why a request that carries the admin's password is refused; empty when it is not.

    Pages can send and not read, so what changes nothing is answered. Whose page it is, the browser says in
    ``Sec-Fetch-Site``; one that does not, or on plain HTTP, in ``Origin``. Other clients send neither.
    """
    if method in ("GET", "HEAD"):
        return ""
    if fetch_site in ("same-origin", "none"):
        return ""  # also where a proxy changes Host
    if fetch_site:
        return "another web page sent this request with a password that the browser keeps; it is refused."
    scheme = origin.partition("://")[0]
    if not origin or (host and _authority(origin) == _authority(f"{scheme}://{host}")):
        return ""
    return f"the web page '{origin[:100]}' may not change anything here; only the gateway's own may."


def _authority(origin: str) -> str:
    """Host and port that an origin names; the port is left out where its scheme says it."""
    return without_default_port(origin.lower()).partition("://")[2]


@dataclass(frozen=True, slots=True)
class Auth:
    """The admin's name and password as SHA-256, and a token that only this process knows."""

    password_sha256: bytes
    token: str
    user: str = USER

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
        return bool(colon) and hmac.compare_digest(user, self.user.encode()) and same


def open_auth(state_dir: Path, mounted: Path, *, is_chosen: bool = False) -> tuple[Auth, str | None]:
    """The admin's credentials, and the password's text if it was made just now (128 random bits).

    Files ``basic-auth-user`` and ``basic-auth-password`` in mounted are taken. When neither is there it is
    the password of the state directory, of which only the SHA-256 is kept, in a file of mode 0600.

    Args:
        is_chosen: Somebody named mounted, so the files have to be there.
    Raises:
        PlatformError: a file cannot be used, or one of the two is missing: no other password takes its place.
    """
    path = state_dir / "admin.json"
    token = secrets.token_urlsafe(32)
    found = [file for file in (mounted / USER_FILE, mounted / PASSWORD_FILE) if _is_there(file)]
    if len(found) == 1 or (is_chosen and not found):
        there = f"only {found[0].name} is" if found else "neither is"
        raise PlatformError(
            f"credentials are expected in {USER_FILE} and {PASSWORD_FILE} in '{mounted}'; {there} there",
            hint="Fill both files, or remove both and leave --secret-mount-path out.",
        )
    if found:
        user, password = _credential(mounted / USER_FILE), _credential(mounted / PASSWORD_FILE)
        if ":" in user:  # Basic ends the name at the first one (RFC 7617)
            raise PlatformError(
                f"the name in '{mounted / USER_FILE}' holds ':', so that nobody could give it"
            )
        return Auth(hashlib.sha256(password.encode()).digest(), token, user), None
    if _is_there(path):
        return Auth(_kept_digest(path), token), None
    password = secrets.token_urlsafe(16)
    digest = hashlib.sha256(password.encode()).digest()
    write_atomically(path, json.dumps({"password_sha256": digest.hex()}).encode())
    return Auth(digest, token), password


def _kept_digest(path: Path) -> bytes:
    try:
        digest = bytes.fromhex(json.loads(path.read_bytes())["password_sha256"])
    except OSError as failed:
        raise PlatformError(f"credentials in '{path}' cannot be read: {failed.strerror}") from failed
    except (ValueError, KeyError, TypeError, RecursionError):
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise PlatformError(
            f"'{path}' does not hold a password's SHA-256",
            hint="Remove it; the next start makes a new password.",
        )
    return digest


def _is_there(path: Path) -> bool:
    """Whether a folder has an entry of that name, of whatever kind: a link that leads nowhere is one."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as failed:
        raise PlatformError(f"credentials in '{path}' cannot be looked for: {failed.strerror}") from failed
    return True


def _credential(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a folder, as Docker makes of a missing file, or a pipe
            raise PlatformError(f"'{path}' is no file; a text is expected in it")
        with path.open("rb") as file:
            data = file.read(_CREDENTIAL_LIMIT + 1)
        text = data.decode().strip()
    except OSError as failed:
        raise PlatformError(f"credentials in '{path}' cannot be read: {failed.strerror}") from failed
    except UnicodeDecodeError as failed:
        raise PlatformError(f"credentials in '{path}' are not UTF-8: {failed.reason}") from None
    if len(data) > _CREDENTIAL_LIMIT:
        raise PlatformError(
            f"'{path}' has over {_CREDENTIAL_LIMIT:,} bytes; a name or a password is expected"
        )
    if not text:
        raise PlatformError(
            f"'{path}' is empty; a name and a password are expected", hint="Fill both files, or remove them."
        )
    return text


class Guard:
    """ASGI middleware around the whole control plane.

    Args:
        auth: None: loopback without credentials.
        public: Method and path of the routes that answer anybody.
        clock: Monotonic seconds; tests move it by hand.
    """

    def __init__(
        self,
        app: ASGIApp,
        auth: Auth | None,
        public: Iterable[tuple[str, str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._auth = auth
        self._public = [(method, compile_path(path)[0]) for method, path in public]
        self._tries = Tries()
        self._clock = clock

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
        host, origin = headers.get("host", ""), headers.get("origin", "")
        fetch_site = headers.get("sec-fetch-site", "").lower()
        if self._auth is None:
            why = refusal_without_auth(host, origin, fetch_site)
            return PlainTextResponse(f"{why}\n", 403) if why else None
        if self._is_public(request):
            return None
        why = refusal_of_foreign_page(request.method, host=host, origin=origin, fetch_site=fetch_site)
        if why:  # before the password is looked at: no page makes its visitor's address wait
            return PlainTextResponse(f"{why}\n", 403)
        return self._refuse_stranger(self._auth, headers)

    def _is_public(self, request: Request) -> bool:
        method = "GET" if request.method == "HEAD" else request.method
        path = request.url.path
        return any(method == known and pattern.match(path) for known, pattern in self._public)

    def _refuse_stranger(self, auth: Auth, headers: Headers) -> Response | None:
        """Why somebody without the admin's password is refused; None for the admin.

        Wrong passwords count against the address that the edge puts into every request; none at all does not.
        """
        given, address = headers.get("authorization", ""), headers.get("x-forwarded-for", "")
        wait_s = self._tries.wait_s(address, self._clock())
        if wait_s and given:
            return PlainTextResponse(
                "too many wrong passwords came from this address\n", 429,
                headers={"Retry-After": str(math.ceil(wait_s))},
            )  # fmt: skip
        if auth.accepts(given):
            return None
        if given.partition(" ")[2]:
            self._tries.fail(address, self._clock())
        # Body and realm are OpenFaaS's: clients depend on them (contract 1.1).
        realm = {"WWW-Authenticate": 'Basic realm="Restricted"'}
        return PlainTextResponse("invalid credentials", 401, headers=realm)
