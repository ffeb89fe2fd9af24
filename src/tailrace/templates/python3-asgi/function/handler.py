async def app(scope, receive, send):
    """Any ASGI app fits: with starlette in requirements.txt, `app = Starlette(...)` stands here instead.

    Each body that is sent reaches the caller at once. WebSockets come with the scope's type "websocket".
    """
    assert scope["type"] == "http"
    name = (await receive())["body"].decode() or "world"
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for word in ("Hello, ", name, "!\n"):
        await send({"type": "http.response.body", "body": word.encode(), "more_body": True})
    await send({"type": "http.response.body"})
