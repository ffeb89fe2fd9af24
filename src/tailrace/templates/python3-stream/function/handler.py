import asyncio


async def handle(event, context):
    """Each yield reaches the caller at once: a str is one event, a dict one event of JSON.

    When the caller leaves, the handler is cancelled where it waits, so `finally` and `async with` run.
    """
    name = event.body.decode() or "world"
    for word in f"Hello, {name}! Each word is an event of its own.".split():
        yield word + " "
        await asyncio.sleep(0.1)
