// Anthropic's SDK for JavaScript: a client whose events have names, and pings of their own.
import Anthropic, { APIError } from "@anthropic-ai/sdk";

export async function read(url) {
  const client = new Anthropic({ baseURL: url, apiKey: "any", maxRetries: 0, logLevel: "off" });
  const outcome = { text: "", chunks: 0, error: null };
  try {
    const stream = await client.messages.create({
      model: "m",
      max_tokens: 9,
      messages: [{ role: "user", content: "hi" }],
      stream: true,
    });
    for await (const event of stream) {
      outcome.chunks += 1;
      if (event.type === "content_block_delta") outcome.text += event.delta.text;
    }
  } catch (error) {
    outcome.error = {
      isApiError: error instanceof APIError,
      name: error.constructor.name,
      message: error.message,
    };
  }
  return outcome;
}
