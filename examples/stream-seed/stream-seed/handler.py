from flask import stream_with_context, request,Response
import requests

from langchain_community.chat_models import ChatOpenAI
from os import environ

environ["OPENAI_API_KEY"] = open("/var/openfaas/secrets/openai-api-key").read().strip()

chat_model = ChatOpenAI(
    model="gpt-3.5-turbo",
    openai_api_base=environ["OPENAI_BASE_URL"],
)

def handle(req):
    prompt = "You are a helpful AI assistant, try your best to help, respond with truthful answers, but if you don't know the correct answer, just say sorry I can't help. Answer this question: {}".format(req)

    print("Prompt: {}".format(prompt))

    def stream():
        for chunk in chat_model.stream(prompt):
            print(chunk.content+"\n", flush=True, end="")
            yield f'data: {chunk.content}\n\n'

    return Response(stream(), mimetype='text/event-stream')
