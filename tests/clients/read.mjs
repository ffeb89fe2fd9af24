// Reads many streams with one client and prints what the client made of each.
//
// usage: node read.mjs CLIENT <job.json     job: {"streams": {NAME: URL}}
// A client is a module of this folder with `read(url) -> outcome`. Outcomes are told in terms of the
// client's own interface; Python knows what is right.

const AT_ONCE = 24;
const LIMIT_MS = 15000;

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { streams } = JSON.parse(Buffer.concat(chunks).toString());
const { read } = await import(`./${process.argv[2]}.mjs`);

const waiting = Object.entries(streams);
const outcomes = {};

async function reader() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [name, url] = next;
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, LIMIT_MS, { never: `no end within ${LIMIT_MS} ms` });
    });
    outcomes[name] = await Promise.race([read(url), late]);
    clearTimeout(timer);
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, reader));
process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
