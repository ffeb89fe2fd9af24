def handle(event, context):
    """event has body (bytes), headers, method, query and path; context has hostname."""
    name = event.body.decode() or "world"
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "text/plain; charset=utf-8"},
        "body": f"Hello, {name}!\n",
    }
