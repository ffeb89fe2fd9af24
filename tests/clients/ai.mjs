// The AI SDK's chat: the part of useChat that is not React, with its default transport.
import { AbstractChat, DefaultChatTransport } from "ai";

class Chat extends AbstractChat {
  constructor(options) {
    const state = {
      status: "ready",
      error: undefined,
      messages: [],
      pushMessage: (message) => state.messages.push(message),
      popMessage: () => state.messages.pop(),
      replaceMessage: (at, message) => (state.messages[at] = message),
      snapshot: (value) => structuredClone(value),
    };
    super({ ...options, state });
  }
}

export async function read(url) {
  const outcome = { text: "", status: null, error: null, finish: null };
  const chat = new Chat({
    transport: new DefaultChatTransport({ api: url }),
    onError: (error) => (outcome.error = { name: error.name, message: error.message }),
    onFinish: ({ isAbort, isDisconnect, isError }) => (outcome.finish = { isAbort, isDisconnect, isError }),
  });
  await chat.sendMessage({ text: "hi" });
  const parts = chat.messages.at(-1).role === "assistant" ? chat.messages.at(-1).parts : [];
  outcome.text = parts.filter((part) => part.type === "text").map((part) => part.text).join("");
  outcome.status = chat.status;
  return outcome;
}
