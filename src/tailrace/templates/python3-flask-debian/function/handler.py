from flask import Response


def handle(req):
    """req is the request's body as text. Return anything Flask accepts; a generator streams."""

    def words():
        for word in ("Hello, ", req or "world", "!\n"):
            yield word

    return Response(words(), mimetype="text/plain")
