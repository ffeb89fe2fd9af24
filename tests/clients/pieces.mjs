// eventsource-parser fed with pieces: every way to cut a stream in two, without a connection for each.
//
// usage: node pieces.mjs <job.json     job: {NAME: stream in base64}
// Prints {NAME: [data...]}, or the first place where a cut changed the result.
import { createParser } from "eventsource-parser";

function parse(pieces) {
  const seen = [];
  const parser = createParser({ onEvent: (event) => seen.push(event.data) });
  const decoder = new TextDecoder();
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return seen;
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const streams = JSON.parse(Buffer.concat(chunks).toString());

const outcomes = {};
for (const [name, encoded] of Object.entries(streams)) {
  const stream = Buffer.from(encoded, "base64");
  const whole = JSON.stringify(parse([stream]));
  outcomes[name] = JSON.parse(whole);
  for (let at = 1; at < stream.length; at += 1) {
    const cut = JSON.stringify(parse([stream.subarray(0, at), stream.subarray(at)]));
    if (cut !== whole) outcomes[name] = `cut at byte ${at}: ${cut}`;
  }
}
process.stdout.write(JSON.stringify(outcomes));
