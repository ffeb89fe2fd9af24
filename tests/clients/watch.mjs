// Reads one stream with an EventSource, a browser's own or a library's of the same interface.
// A module of its own, because the page and Node's eventsource both use it.

const NAMES = [
  "message", "end", "status", "ping", "message_start", "content_block_start", "content_block_delta",
  "content_block_stop", "message_delta", "message_stop",
];

// An `event: error` of the stream arrives where failures of the connection arrive; only it has data.
export function watch(EventSource, url) {
  return new Promise((resolve) => {
    const source = new EventSource(url);
    const outcome = { opened: false, events: [], ids: [], ended: null };
    const done = (ended) => {
      source.close();
      resolve({ ...outcome, ended });
    };
    source.onopen = () => (outcome.opened = true);
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        outcome.events.push([name, event.data]);
        outcome.ids.push(event.lastEventId);
        if (name === "end") done("end");
      });
    }
    source.addEventListener("error", (event) => {
      if (event.data !== undefined) {
        outcome.events.push(["error", event.data]);
      } else {
        done(source.readyState === 2 ? "closed" : "reconnecting");
      }
    });
  });
}
