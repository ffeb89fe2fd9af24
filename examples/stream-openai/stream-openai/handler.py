from os import environ
from pathlib import Path

from openai import AsyncOpenAI

# The address comes from OPENAI_BASE_URL; without it, it is OpenAI's own.
client = AsyncOpenAI(api_key=Path("/var/openfaas/secrets/openai-api-key").read_text().strip())

# One example of an answer costs a large model nothing; a very small one is lost without it.
INSTRUCTIONS = [
    {
        "role": "system",
        "content": "You are a helpful AI assistant. Answer truthfully in one or two sentences; "
        "if you don't know the answer, say so.",
    },
    {"role": "user", "content": "What are some trees that grow fast?"},
    {
        "role": "assistant",
        "content": "Some trees that grow fast are willow, poplar, birch, eucalyptus, and silver maple.",
    },
]


async def handle(event, context):
    """Each yielded text is one event, line ends and all; when the caller leaves, the model's stops."""
    stream = await client.chat.completions.create(
        model=environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        messages=[*INSTRUCTIONS, {"role": "user", "content": event.body.decode()}],
        max_completion_tokens=300,
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
