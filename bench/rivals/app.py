"""The same handler as a plain Flask application, for the servers that are no part of Tailrace."""

from __future__ import annotations

from flask import Flask, Response, request

from bench.rivals.handler import handle

app = Flask(__name__)


@app.route("/", defaults={"path": ""})
@app.route("/<path:path>")
def call(path: str) -> Response:
    """Every path is the handler's."""
    del path
    return handle(request.get_data())
