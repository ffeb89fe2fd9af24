import json
from os import environ
from pathlib import Path

from openai import AsyncOpenAI

SECRET = Path("/var/openfaas/secrets/openai-api-key")
KEY = SECRET.read_text().strip() if SECRET.is_file() else environ.get("OPENAI_API_KEY", "none")

# The address comes from OPENAI_BASE_URL; without it, it is OpenAI's own.
client = AsyncOpenAI(api_key=KEY)


async def handle(event, context):
    """A text, or JSON with ``messages`` as OpenAI has them; each piece of the answer is one event."""
    stream = await client.chat.completions.create(
        model=environ.get("OPENAI_MODEL", "gpt-4o-mini"), messages=messages(event.body.decode()), stream=True
    )
    async with stream:
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def messages(body):
    """What is asked, as the API takes it."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("messages"), list):
        return found["messages"]
    system = environ.get("SYSTEM_PROMPT", "")
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": body}]
