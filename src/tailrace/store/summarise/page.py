"""Fetch a page that a stranger names: only the web's, only public addresses, only so much of it."""

import asyncio
import ipaddress
import socket
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

LIMIT_BYTES = 2 * 1024 * 1024
REDIRECTS = 5
TIMEOUT_S = 15.0
UNREAD = {"script", "style", "noscript", "template", "svg", "head"}


async def read_page(address, *, allow_private=False):
    """The page's text.

    Raises:
        ValueError: the address is none of the public web, or what is there is no page.
    """
    async with asyncio.timeout(TIMEOUT_S):
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            for _ in range(REDIRECTS + 1):
                url, headers, extensions = await pinned(address, allow_private)
                async with client.stream("GET", url, headers=headers, extensions=extensions) as reply:
                    if reply.is_redirect:
                        address = urljoin(address, reply.headers["location"])
                        continue
                    return await text_of(reply)
    raise ValueError(f"more than {REDIRECTS} redirects")


async def text_of(reply):
    """The words of a reply, at most 2 MiB of it."""
    if reply.status_code != 200:
        raise ValueError(f"the page answered {reply.status_code}")
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("text/") and kind != "application/xhtml+xml":
        raise ValueError(f"expected a page of text, got '{kind[:80]}'")
    data = b""
    async for piece in reply.aiter_bytes():
        data += piece
        if len(data) > LIMIT_BYTES:
            break
    text = data[:LIMIT_BYTES].decode(reply.encoding or "utf-8", "replace")
    return words_of(text) if "html" in kind else text


async def pinned(address, allow_private):
    """The request for an address, to the very host that was checked: its name may mean another one later."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("expected an address such as https://example.com/page")
    loop = asyncio.get_running_loop()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        raise ValueError(f"there is no host '{parts.hostname}'") from None
    host = ipaddress.ip_address(found[0][4][0].partition("%")[0])
    mapped = getattr(host, "ipv4_mapped", None) or host
    if not allow_private and (not mapped.is_global or mapped.is_multicast):
        raise ValueError(f"'{parts.hostname}' is not on the public web")
    shown = f"[{host}]" if host.version == 6 else str(host)
    url = parts._replace(netloc=f"{shown}:{port}", fragment="").geturl()
    name = parts.netloc if parts.port else parts.hostname
    return url, {"Host": name, "User-Agent": "tailrace-summarise/1"}, {"sni_hostname": parts.hostname}


class Words(HTMLParser):
    """The words that a reader of the page sees."""

    def __init__(self):
        super().__init__()
        self.words = []
        self._unread = 0

    def handle_starttag(self, tag, attrs):
        self._unread += tag in UNREAD

    def handle_endtag(self, tag):
        self._unread = max(0, self._unread - (tag in UNREAD))

    def handle_data(self, data):
        if not self._unread:
            self.words += data.split()


def words_of(html):
    """A page's text without its markup."""
    parser = Words()
    parser.feed(html)
    return " ".join(parser.words)
