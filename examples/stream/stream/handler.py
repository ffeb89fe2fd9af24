from os import environ
from pathlib import Path

from flask import Response
from langchain_openai import ChatOpenAI

chat_model = ChatOpenAI(
    model=environ.get("OPENAI_MODEL", "gpt-4o-mini"),
    base_url=environ.get("OPENAI_BASE_URL"),  # None is OpenAI itself
    api_key=Path("/var/openfaas/secrets/openai-api-key").read_text().strip(),
    max_tokens=300,
)

# One example of an answer costs a large model nothing; a very small one is lost without it.
INSTRUCTIONS = [
    (
        "system",
        "You are a helpful AI assistant. Answer truthfully in one or two sentences; "
        "if you don't know the answer, say so.",
    ),
    ("human", "What are some trees that grow fast?"),
    ("ai", "Some trees that grow fast are willow, poplar, birch, eucalyptus, and silver maple."),
]


def handle(req):
    print(f"Question: {req}")

    def stream():
        for chunk in chat_model.stream([*INSTRUCTIONS, ("human", req)]):
            if chunk.content:
                yield event(chunk.content)

    return Response(stream(), mimetype="text/event-stream")


def event(token):
    # A blank line ends an event, so f"data: {token}\n\n" cuts the token ":\n\n" down to ":", and "\n- Nuts"
    # to nothing: a line that does not begin with "data:" is skipped. Every line of a token needs its own;
    # the reader joins them with "\n" again.
    return "data: " + token.replace("\n", "\ndata: ") + "\n\n"
