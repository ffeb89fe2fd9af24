"""Fetch a page that a stranger names: only the web's, only public addresses, only so much of it."""

import asyncio
import ipaddress
import re
import socket
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

LIMIT_BYTES = 2 * 1024 * 1024
REDIRECTS = 5
TIMEOUT_S = 15.0
UNREAD = {"script", "style", "noscript", "template", "svg"}
# Those of the web. Python knows more: some are no encodings of text, some take minutes for a page.
CHARSETS = re.compile(r"(utf-(8|16)|us-ascii|(iso|windows|koi8|gb|big5|euc|shift)[\w-]*)", re.IGNORECASE)
# RFC 4291, RFC 6052 section 2.1, RFC 6890.
UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")
PROTOCOL = ipaddress.ip_network("192.0.0.0/24")


class PageFailed(Exception):
    """The page could not be had, or has no words to read."""


async def read_page(address, *, allow_private=False):
    """The page's text.

    Raises:
        ValueError: the address is none of the public web.
        PageFailed: what is there is no page.
    """
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as web,
        ):
            for _ in range(REDIRECTS + 1):
                url, headers, extensions = await pinned(address, allow_private)
                async with web.stream("GET", url, headers=headers, extensions=extensions) as reply:
                    if not reply.has_redirect_location:
                        return await text_of(reply)
                    address = urljoin(address, reply.headers["location"])
    except TimeoutError:
        raise PageFailed(f"the page did not come within {TIMEOUT_S:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as failed:
        raise PageFailed(f"the page could not be read: {failed or type(failed).__name__}") from failed
    raise PageFailed(f"the page leads to more than {REDIRECTS} others")


async def text_of(reply):
    """The words of a reply, at most 2 MiB of it."""
    if reply.status_code != 200:
        raise PageFailed(f"the page answered {reply.status_code}")
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("text/") and kind != "application/xhtml+xml":
        raise PageFailed(f"expected a page of text, got '{kind[:80]}'")
    data = b""
    async for piece in reply.aiter_bytes():
        data += piece
        if len(data) > LIMIT_BYTES:
            break
    charset = reply.encoding if CHARSETS.fullmatch(reply.encoding or "") else "utf-8"
    text = data[:LIMIT_BYTES].decode(charset, "replace")
    words = words_of(text) if "html" in kind else text.strip()
    if not words:
        raise PageFailed("the page has no text of its own; no script is run that might write it")
    return words


async def pinned(address, allow_private):
    """The request for an address, to the very host that was checked: its name may mean another one later."""
    try:
        parts = urlsplit(address)
        name = (parts.hostname or "").encode("idna").decode()
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, name, port = urlsplit(""), "", 0
    if parts.scheme not in ("http", "https") or not name or "@" in parts.netloc:
        raise ValueError("expected an address such as https://example.com/page")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        raise ValueError(f"there is no host '{name}'") from None
    host = found[0][4][0].partition("%")[0]
    if not allow_private and not is_public(host):
        raise ValueError(f"'{name}' is not on the public web")
    url = parts._replace(netloc=f"{bracketed(host)}:{port}", fragment="").geturl()
    shown = f"{bracketed(name)}:{port}" if parts.port else bracketed(name)
    return url, {"Host": shown, "User-Agent": "tailrace-summarise/1"}, {"sni_hostname": name}


def is_public(address):
    """Whether everybody can reach an IP address, and the one that stands inside of it, if one does."""
    host = ipaddress.ip_address(address)
    if host.version == 6:
        inner = host.ipv4_mapped or host.sixtofour
        if host in NAT64:
            inner = ipaddress.IPv4Address(int(host) & 0xFFFFFFFF)
        if inner is None:
            return host in UNICAST and host.is_global
        host = inner
    return host.is_global and not host.is_multicast and not host.is_reserved and host not in PROTOCOL


def bracketed(host):
    """A host as addresses have it."""
    return f"[{host}]" if ":" in host else host


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

    def parse_marked_section(self, i, report=1):
        """``<![ if !IE ]>`` and its like: a comment to HTML5, an error to Python."""
        return self.parse_bogus_comment(i)


def words_of(html):
    """A page's text without its markup."""
    parser = Words()
    parser.feed(f"{html} <br>")  # which ends the last word; close() takes hours for pages made for that
    return " ".join(parser.words)
