// Reads runs with @tailrace/client, and tells what came of each in words that Python's clients use too.
//
// usage: node resume.mjs <job.json     job: {NAME: {url, run, options, stopAt, leaveAt}}
import { attach, stream } from "../../clients/js/dist/index.js";

async function read({ url, run, options, stopAt, leaveAt }) {
  const outcome = { data: [], run: "", error: ["", ""], stopped: "" };
  const answer = run ? attach(run, options) : stream(url, options);
  try {
    for await (const event of answer) {
      outcome.data.push(event.data);
      if (outcome.data.length === stopAt) outcome.stopped = (await answer.stop()).state;
      if (outcome.data.length === leaveAt) break;
    }
  } catch (error) {
    outcome.error = [error.name, error.name === "RunFailed" ? error.code : String(error.status ?? "")];
    if (!("run" in error)) outcome.error[1] = String(error.stack);
  }
  outcome.run = answer.run ?? "";
  return outcome;
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const job = JSON.parse(Buffer.concat(chunks).toString());
const outcomes = {};
await Promise.all(Object.entries(job).map(async ([name, one]) => (outcomes[name] = await read(one))));
process.stdout.write(JSON.stringify(outcomes));
