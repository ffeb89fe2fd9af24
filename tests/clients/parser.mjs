// eventsource-parser over fetch, as most chat front ends read a stream.
import { EventSourceParserStream } from "eventsource-parser/stream";

export async function read(url) {
  const outcome = { events: [], error: null };
  try {
    const response = await fetch(url);
    const events = response.body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream({ onError: (error) => (outcome.error = String(error)) }));
    for await (const event of events) {
      outcome.events.push([event.event ?? "message", event.data]);
    }
  } catch (error) {
    outcome.error = error.message;
  }
  return outcome;
}
