"""A web server of a test's own, on a free port of loopback."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator

from tests.kit.certificate import Pair


class Quiet(http.server.BaseHTTPRequestHandler):
    """A handler to be derived from: it logs nothing."""

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[Quiet], pair: Pair | None = None) -> Iterator[str]:
    """Its address, without a slash at the end, while the context is open; over HTTPS with a certificate."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.cert, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            where = "http://127.0.0.1" if pair is None else "https://localhost"
            yield f"{where}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
