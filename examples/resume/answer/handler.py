import asyncio

# In place of a model, so that no key is needed: each word is an event of its own.
ANSWER = """You asked: {question}

A tailrace is the channel that carries the water on after it has turned the wheel. Whoever stands at the \
wheel sees it first; whoever comes later walks down to the channel and sees the same water, in the same \
order, for as long as it runs.

This answer goes the same way. Each word is on your screen the moment it exists, and it is also written \
down. Pull the plug: the words go on being said, and when you are back you get those that you missed, none \
twice. Reload the page, and the answer goes on where it is. Press Stop, and nobody says another word: \
leaving and stopping are two different things.

Only when the gateway itself dies does the answer die with it. Then you keep what was written down, \
and are told that it is not all."""


async def handle(event, context):
    question = " ".join(event.body.decode()[:200].split()) or "nothing at all"
    for word in ANSWER.format(question=question).split(" "):
        yield word + " "
        await asyncio.sleep(0.12)
