"""JSON documents of others, such as stores: from an address or a file, bounded, as values."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from tailrace.addresses import without_password
from tailrace.client.connection import http_settings
from tailrace.errors import GatewayUnreachable, InvalidRequest, PlatformError

_T = TypeVar("_T")
_LIMIT_BYTES = 4 * 1024 * 1024
_TIMEOUT_S = 10.0


def read_document(source: str, kind: type[_T], what: str) -> _T:
    """The document at an ``http(s)://`` address or a path.

    Args:
        what: How messages call it, such as "function store".
    Raises:
        GatewayUnreachable: nobody answers there.
        PlatformError: the answer is not 200, or over 4 MiB.
        InvalidRequest: it is no file and no address that is read, or not such a document.
    """
    scheme, mark, _ = source.partition("://")
    is_web = bool(mark) and scheme.lower() in ("http", "https")
    if mark and not is_web:
        raise InvalidRequest(
            f"a {what} cannot be read by {scheme}://", hint="Name an http:// or https:// address, or a file."
        )
    data = _fetch(source, what) if is_web else _read(source, what)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as bad:
        raise InvalidRequest(
            f"the {what} at {without_password(source)} cannot be understood: {bad}"
        ) from None


def _fetch(url: str, what: str) -> bytes:
    data, shown = bytearray(), without_password(url)
    try:
        with (
            httpx.Client(
                timeout=_TIMEOUT_S, follow_redirects=True, **http_settings(url, is_redirected=True)
            ) as http,
            http.stream("GET", url) as reply,
        ):
            if reply.status_code != 200:
                raise PlatformError(f"the {what} at {shown} answered {reply.status_code}")
            for piece in reply.iter_bytes():
                data += piece
                if len(data) > _LIMIT_BYTES:
                    raise PlatformError(f"the {what} at {shown} is over {_LIMIT_BYTES >> 20} MiB")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):  # whose words may hold the password
        raise InvalidRequest(f"the {what}'s address '{shown}' is no URL that can be used") from None
    except httpx.HTTPError as failed:
        raise GatewayUnreachable(f"the {what} at {shown} cannot be reached: {failed}") from failed
    return bytes(data)


def _read(path: str, what: str) -> bytes:
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except OSError as failed:
        raise InvalidRequest(f"the {what} {path} cannot be read: {failed.strerror}") from None
    if len(data) > _LIMIT_BYTES:
        raise InvalidRequest(f"the {what} {path} is over {_LIMIT_BYTES >> 20} MiB")
    return data
