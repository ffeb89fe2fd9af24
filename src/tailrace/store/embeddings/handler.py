import json
from os import environ
from pathlib import Path

from openai import OpenAI, OpenAIError

SECRET = Path("/var/openfaas/secrets/openai-api-key")
KEY = SECRET.read_text().strip() if SECRET.is_file() else environ.get("OPENAI_API_KEY", "none")
JSON = {"Content-Type": "application/json"}

client = OpenAI(api_key=KEY)


def handle(event, context):
    """A text, or a JSON list of texts; the answer is a JSON list with one vector for each."""
    texts = texts_of(event.body.decode(errors="replace"))
    if not texts:
        wanted = "expected a text, or a JSON list of texts that are not empty"
        return {"statusCode": 400, "headers": JSON, "body": json.dumps({"error": wanted})}
    try:
        found = client.embeddings.create(
            model=environ.get("OPENAI_EMBEDDING_MODEL", "text-embedding-3-small"),
            input=texts,
            encoding_format="float",
        )
    except OpenAIError as failed:
        return {"statusCode": 502, "headers": JSON, "body": json.dumps({"error": f"the model: {failed}"})}
    vectors = [row.embedding for row in sorted(found.data, key=lambda row: row.index)]
    return {"statusCode": 200, "headers": JSON, "body": json.dumps(vectors)}


def texts_of(body):
    """The texts that are asked for; none when it is no text and no list of texts."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = body
    texts = found if isinstance(found, list) else [body]
    return texts if all(isinstance(text, str) and text.strip() for text in texts) else []
