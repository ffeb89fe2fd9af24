from pathlib import Path

HERE = Path(__file__).parent
FILES = {
    "/": (b"text/html; charset=utf-8", HERE / "index.html"),
    # @tailrace/client with its parser in one file: `npm run build` in clients/js makes it.
    "/tailrace-client.js": (b"text/javascript", HERE / "tailrace-client.js"),
}


async def app(scope, receive, send):
    """An ASGI app that hands out the page and the one script it needs."""
    kind, file = FILES.get(scope["path"], (b"text/plain", None))
    body = file.read_bytes() if file else b"no such file\n"
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-cache"),
    ]
    await send({"type": "http.response.start", "status": 200 if file else 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
