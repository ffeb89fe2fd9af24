"""What begins over plain HTTP and goes on over HTTPS: redirects of a store, a gateway beside a function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.cli.documents import read_document
from tailrace.client.steps import Resume
from tailrace.client.sync import stream
from tailrace.errors import ConnectionLost
from tailrace.wire.openfaas import Store
from tests.kit.certificate import Pair, make_pair
from tests.kit.web import Quiet, serving

RUN = "r" * 26


@contextlib.contextmanager
def answering(status: int, headers: dict[str, str], body: bytes, pair: Pair | None = None) -> Iterator[str]:
    """A server that always answers this; its URL."""

    class Handler(Quiet):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler, pair) as url:
        yield url


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A certificate that this machine trusts."""
    made = make_pair(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.cert))
    return made


def test_a_store_that_redirects_to_https_is_read(pair: Pair) -> None:
    """As most that are named by http:// do."""
    listing = b'{"version": "0.2.0", "functions": []}'
    with (
        answering(200, {}, listing, pair) as store,
        answering(301, {"Location": f"{store}/f.json", "Content-Length": "0"}, b"") as url,
    ):
        assert [] == read_document(f"{url}/f.json", Store, "store").functions


def test_a_run_is_looked_for_at_a_gateway_that_answers_https(pair: Pair) -> None:
    """Its function is called over plain HTTP; the gateway is asked, and says that it knows no such run."""
    head = {"Content-Type": "text/event-stream", "X-Call-Id": RUN, "X-Tailrace-Dialect": "native"}
    with (
        answering(404, {"Content-Length": "0"}, b"", pair) as gateway,
        answering(200, head, b"data: a\n\n") as url,
        stream(f"{url}/function/f", gateway=gateway, resume=Resume(attempts=2)) as events,
        pytest.raises(ConnectionLost, match="the gateway does not know run"),
    ):
        list(events)
