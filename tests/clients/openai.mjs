// The OpenAI SDK for JavaScript, as an application uses it.
import OpenAI, { APIError } from "openai";

export async function read(url) {
  const client = new OpenAI({ baseURL: url, apiKey: "any", maxRetries: 0, logLevel: "off" });
  const outcome = { text: "", chunks: 0, error: null };
  try {
    const stream = await client.chat.completions.create({
      model: "m",
      messages: [{ role: "user", content: "hi" }],
      stream: true,
    });
    for await (const chunk of stream) {
      outcome.chunks += 1;
      outcome.text += chunk.choices[0].delta.content ?? "";
    }
  } catch (error) {
    outcome.error = {
      isApiError: error instanceof APIError,
      name: error.constructor.name,
      message: error.message,
      code: error.code ?? null,
    };
  }
  return outcome;
}
