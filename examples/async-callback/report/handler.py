import asyncio

# In place of a long job, so that nothing is needed: each word is an event of its own.
REPORT = "The report on {subject} is done. It took a while, and nobody had to wait for it."
tried = set()


async def handle(event, context):
    call = event.headers.get("X-Call-Id")
    if call not in tried:  # as with a busy backend; nothing was said yet, so it is tried again
        tried.add(call)
        raise RuntimeError("the backend is busy")
    subject = " ".join(event.body.decode()[:200].split()) or "nothing at all"
    for word in REPORT.format(subject=subject).split(" "):
        yield word + " "
        await asyncio.sleep(0.2)
