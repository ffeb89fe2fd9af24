// Runs in the browser: reads every stream of /job.json with the named client, then posts what was seen.
import { fetchEventSource } from "/fetch-event-source/index.js";
import { watch } from "/watch.mjs";

// Six connections per host is all that a browser opens over HTTP/1.1.
const AT_ONCE = 5;
const LIMIT_MS = 15000;

async function fetched(url) {
  const outcome = { events: [], ended: null };
  try {
    await fetchEventSource(url, {
      method: "POST",
      body: "{}",
      openWhenHidden: true,
      onmessage: (event) => outcome.events.push([event.event || "message", event.data]),
      onclose: () => (outcome.ended = "closed"),
      onerror: (error) => {
        throw error; // else it asks again, with a POST, each second
      },
    });
  } catch (error) {
    outcome.ended = `failed: ${error.message}`;
  }
  return outcome;
}

// As an application does that lets the browser come back by itself.
function resumed(url) {
  return new Promise((resolve) => {
    const source = new EventSource(url);
    const outcome = { data: [], errors: 0, ended: null };
    source.onmessage = (event) => outcome.data.push(event.data);
    source.onerror = () => {
      outcome.errors += 1;
      if (source.readyState === EventSource.CLOSED) resolve({ ...outcome, ended: "closed" });
    };
  });
}

const clients = { eventsource: (url) => watch(EventSource, url), fetched, resumed };

function limited(promise) {
  const late = new Promise((resolve) => setTimeout(resolve, LIMIT_MS, { never: `no end in ${LIMIT_MS} ms` }));
  return Promise.race([promise, late]);
}

const job = await (await fetch("/job.json")).json();
const waiting = Object.entries(job);
const outcomes = {};
async function reader() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [name, { client, url }] = next;
    outcomes[name] = await limited(clients[client](url));
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, reader));
await fetch("/report", { method: "POST", body: JSON.stringify({ agent: navigator.userAgent, outcomes }) });
