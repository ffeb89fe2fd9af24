async def app(scope, receive, send):
    """An ASGI app, which Starlette or FastAPI would make for you: what a client says, it says back."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        await echo(receive, send)
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 426, "headers": headers})
        await send({"type": "http.response.body", "body": b"connect with a WebSocket\n"})


async def echo(receive, send):
    while (message := await receive())["type"] == "websocket.receive":
        print(f"echo: {message}")
        await send({**message, "type": "websocket.send"})
    print(f"closed: {message['code']}")  # and when the function returns, so is its socket
