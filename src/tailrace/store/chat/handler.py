import json
from os import environ
from pathlib import Path

from openai import AsyncOpenAI, BadRequestError, OpenAIError

SECRET = Path("/var/openfaas/secrets/openai-api-key")
KEY = SECRET.read_text().strip() if SECRET.is_file() else environ.get("OPENAI_API_KEY", "none")

# The address comes from OPENAI_BASE_URL; without it, it is OpenAI's own.
client = AsyncOpenAI(api_key=KEY)


async def handle(event, context):
    """A text, or JSON with ``messages`` as OpenAI has them; each piece of the answer is one event."""
    try:
        stream = await client.chat.completions.create(
            model=environ.get("OPENAI_MODEL", "gpt-4o-mini"), messages=messages(event.body), stream=True
        )
    except ValueError as mistake:
        yield refusal(context, 400, str(mistake))
        return
    except OpenAIError as failed:
        yield refusal(context, 400 if isinstance(failed, BadRequestError) else 502, f"the model: {failed}")
        return
    async with stream:
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def refusal(context, status, error):
    """What to yield instead of a stream: bytes are a body as it is, and its head is open until then."""
    context.status, context.content_type = status, "application/json"
    return json.dumps({"error": error}).encode()


def messages(body):
    """What is asked, as the API takes it.

    Raises:
        ValueError: it is neither a text nor messages.
    """
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and "messages" in found:
        asked = found["messages"]
        if isinstance(asked, list) and asked and all(isinstance(m, dict) and "role" in m for m in asked):
            return asked
        raise ValueError('expected {"messages": [{"role": "user", "content": "..."}, ...]}')
    if not text.strip():
        raise ValueError('expected a text, or {"messages": [{"role": "user", "content": "..."}, ...]}')
    system = environ.get("SYSTEM_PROMPT", "")
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": text}]
