// What the table of courses cannot say: signals, bodies, tabs, sizes. Against a small server of this file's own;
// the real gateway is asked by tests/clients/test_resume.py and test_resume_browser.py.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { gzipSync } from "node:zlib";
import { attach, ConnectionLost, lookUp, stop, stopBeacon, stream, StreamError } from "../dist/index.js";
import { gatewayOf, runUrl } from "../dist/runs.js";

const RUN = "rrrrrrrrrrrrrrrrrrrrrrrrrr";
const HEAD = { "content-type": "text/event-stream", "x-call-id": RUN, "x-tailrace-dialect": "native" };
let server, url, answer, asked;

before(async () => {
  server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    asked.push({ method: request.method, path: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() });
    answer(request, response, asked.length);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => (asked = []));

const event = (number, data) => `id: ${RUN}-${number}\ndata: ${data}\n\n`;
const whole = (_, response) => response.writeHead(200, HEAD).end(event(1, "a") + `id: ${RUN}-2\nevent: end\ndata: {}\n\n`);
const hanging = (_, response) => response.writeHead(200, HEAD).write(event(1, "a"));
const cut = (_, response) => response.writeHead(200, HEAD).write(event(1, "a"), () => response.destroy());
const rest = (_, response) =>
  response.writeHead(200, HEAD).end(event(2, "b") + `id: ${RUN}-3\nevent: end\ndata: {}\n\n`);

async function read(stream) {
  const data = [];
  for await (const event of stream) data.push(event.data);
  return data;
}

test("aborting leaves at once, with the signal's reason, and asks no more", async () => {
  const leaving = new AbortController();
  const reason = new Error("enough");
  let left;
  const gone = new Promise((resolve) => (left = resolve));
  answer = (request, response) => {
    response.on("close", left);
    hanging(request, response);
  };
  const seen = [];
  const reading = (async () => {
    for await (const event of stream(`${url}/function/f`, { signal: leaving.signal })) {
      seen.push(event.data);
      leaving.abort(reason);
    }
  })();
  await assert.rejects(reading, reason);
  await gone;
  assert.deepEqual([seen, asked.length], [["a"], 1]);
});

test("an abort ends the wait for another attempt", async () => {
  const leaving = new AbortController();
  answer = (_, response) => response.destroy();
  const onState = ({ state }) => state === "waiting" && setTimeout(() => leaving.abort(), 5);
  const reading = read(stream(`${url}/function/f`, { signal: leaving.signal, onState }));
  await assert.rejects(reading, { name: "AbortError" });
});

// The stream of the run is refused as by a proxy, so its record is asked for; that is never answered.
const recordless = (request, response) => {
  if (request.url.startsWith("/function/")) cut(request, response);
  else if (request.url.includes("/stream")) response.writeHead(502).end();
};

test("an abort ends the look at the run's record", async () => {
  const leaving = new AbortController();
  answer = (request, response) => {
    recordless(request, response);
    if (request.url === `/run/${RUN}`) setTimeout(() => leaving.abort(), 5);
  };
  await assert.rejects(read(stream(`${url}/function/f`, { signal: leaving.signal })), { name: "AbortError" });
});

test("a record that does not come is not waited for without end", async () => {
  answer = recordless;
  const reading = read(stream(`${url}/function/f`, { attempts: 1, silenceMs: 100 }));
  await assert.rejects(reading, ConnectionLost);
  assert.ok(asked.some(({ path }) => path === `/run/${RUN}`));
});

test("a signal that was aborted before sends nothing", async () => {
  await assert.rejects(read(stream(`${url}/function/f`, { signal: AbortSignal.abort() })), { name: "AbortError" });
  assert.equal(asked.length, 0);
});

test("leaving the loop closes the connection", async () => {
  let left;
  const gone = new Promise((resolve) => (left = resolve));
  answer = (request, response) => {
    response.on("close", left);
    hanging(request, response);
  };
  const answering = stream(`${url}/function/f`);
  for await (const _ of answering) break;
  await gone;
  assert.equal(answering.lastEventId, `${RUN}-1`);
});

test("a body is sent again as it was, under the same key, and asks to be recorded", async () => {
  answer = (request, response, count) => (count < 3 ? response.destroy() : whole(request, response));
  const form = new FormData();
  form.set("name", "Ada");
  const options = { body: form, headers: { "x-more": "1" }, onDisconnect: "grace:5s" };
  assert.deepEqual(await read(stream(`${url}/function/f`, options)), ["a"]);
  const told = asked.map(({ method, headers, body }) => [
    method, body, headers["content-type"], headers["idempotency-key"], headers["x-tailrace-record"],
    headers["x-tailrace-on-disconnect"], headers["x-more"],
  ]);
  assert.equal(told.length, 3);
  assert.deepEqual(told[1], told[0]);
  assert.deepEqual(told[2], told[0]);
  assert.equal(told[0][0], "POST");
  assert.match(told[0][1], /Ada/);
  assert.match(told[0][2], /^multipart\/form-data; boundary=/);
  assert.match(told[0][3], /^[0-9a-f]{32}$/);
  assert.deepEqual(told[0].slice(4), ["1", "grace:5s", "1"]);
});

test("a key among the headers is the call's, and no other takes its place", async () => {
  answer = (request, response, count) => (count === 1 ? cut(request, response) : rest(request, response));
  assert.deepEqual(await read(stream(`${url}/function/f`, { headers: { "Idempotency-Key": "mine" } })), ["a", "b"]);
  assert.deepEqual(asked.map(({ headers }) => headers["idempotency-key"]), ["mine", undefined]);
});

test("the rest of a cut stream is asked for with the credential and without the request's own headers", async () => {
  answer = (request, response, count) => (count === 1 ? cut(request, response) : rest(request, response));
  const headers = { authorization: "Bearer x", "content-type": "text/plain" };
  assert.deepEqual(await read(stream(`${url}/function/f`, { body: "hi", headers })), ["a", "b"]);
  const { method, path, headers: sent } = asked[1];
  assert.deepEqual([method, path], ["GET", `/run/${RUN}/stream?format=sse&after=1`]);
  assert.deepEqual(
    [sent.authorization, sent["content-type"], sent["idempotency-key"], sent["x-tailrace-record"]],
    ["Bearer x", undefined, undefined, undefined],
  );
});

test("without resume nothing of runs is sent, and a cut is told", async () => {
  answer = cut;
  await assert.rejects(read(stream(`${url}/function/f`, { resume: false })), ConnectionLost);
  const { headers } = asked[0];
  assert.deepEqual([asked.length, headers["idempotency-key"], headers["x-tailrace-record"]], [1, undefined, undefined]);
});

// A tab as the client sees it: an object of the page's interface, in Node.
function tab(state) {
  const page = new EventTarget();
  page.visibilityState = state;
  globalThis.document = page;
  return page;
}

test("a hidden tab goes on reading, and comes back as soon as it is seen instead of starting anew", async (t) => {
  t.after(() => delete globalThis.document);
  const page = tab("visible");
  let respond;
  answer = (request, response, count) => {
    if (count === 1) (hanging(request, response), (respond = response));
    else if (count < 7) response.destroy();
    else rest(request, response);
  };
  const waits = [];
  let count = 0;
  const onState = ({ state, waitMs }) => {
    if (state !== "waiting") return;
    waits.push(waitMs);
    setTimeout(() => page.dispatchEvent(new Event("visibilitychange")), 1); // each time it is seen, it asks
  };
  const started = performance.now();
  const answering = stream(`${url}/function/f`, { onState });
  for await (const { data } of answering) {
    count += 1;
    if (data !== "a") continue;
    page.visibilityState = "hidden";
    page.dispatchEvent(new Event("visibilitychange"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(asked.length, 1); // being hidden changes nothing
    page.visibilityState = "visible";
    page.dispatchEvent(new Event("visibilitychange"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(asked.length, 1); // nor does being seen, while the connection stands
    respond.destroy();
  }
  const took = performance.now() - started;
  assert.equal(count, 2);
  assert.deepEqual(asked.map(({ path }) => path.split("?")[0]), ["/function/f", ...Array(6).fill(`/run/${RUN}/stream`)]);
  assert.ok(waits.length === 6 && took < waits.reduce((a, b) => a + b), `${took} ms, waits ${waits}`);
});

test("a hidden tab waits its time", async (t) => {
  t.after(() => delete globalThis.document);
  const page = tab("hidden");
  answer = (request, response, count) => (count === 1 ? response.destroy() : whole(request, response));
  let waitMs;
  let askedAt;
  const onState = (told) => {
    if (told.state === "waiting") {
      ({ waitMs } = told);
      askedAt = performance.now();
      page.dispatchEvent(new Event("visibilitychange"));
    } else if (waitMs !== undefined && askedAt) {
      assert.ok(performance.now() - askedAt >= waitMs - 2);
      askedAt = 0;
    }
  };
  assert.deepEqual(await read(stream(`${url}/function/f`, { onState })), ["a"]);
  assert.notEqual(waitMs, undefined);
});

test("`started` tells the id as soon as it is known, and why it never will be", async () => {
  answer = hanging;
  const answering = stream(`${url}/function/f`);
  const reading = answering[Symbol.asyncIterator]();
  await Promise.all([reading.next(), answering.started.then((run) => assert.equal(run, RUN))]);
  await reading.return();
  answer = (_, response) => response.writeHead(404).end("no function 'g'\n");
  const refused = stream(`${url}/function/g`);
  await assert.rejects(read(refused), { name: "HttpError", status: 404, message: "no function 'g'" });
  await assert.rejects(refused.started, { name: "HttpError" });
  await assert.rejects(refused.stop(), { name: "HttpError" });
});

test("a stream is read once", async () => {
  answer = whole;
  const answering = stream(`${url}/function/f`);
  await read(answering);
  await assert.rejects(read(answering), TypeError);
});

test("a caller's own fault is thrown as it is", async () => {
  answer = whole;
  const fault = new RangeError("mine");
  const reading = (async () => {
    for await (const _ of stream(`${url}/function/f`)) throw fault;
  })();
  await assert.rejects(reading, fault);
  assert.throws(() => stream(`${url}/function/f`, { headers: { "bad name": "x" } }), TypeError);
  assert.throws(() => stream(`${url}/function/f`, { method: "GET", body: "x" }), TypeError);
  const onState = () => {
    throw fault;
  };
  await assert.rejects(read(stream(`${url}/function/f`, { onState })), fault);
  assert.equal(asked.length, 1);
});

test("stop and lookUp take a URL, or an id with its gateway", async () => {
  answer = (_, response) => response.writeHead(200, { "content-type": "application/json" }).end('{"state":"cancelled"}');
  assert.equal((await stop(`${url}/run/${RUN}`)).state, "cancelled");
  assert.equal((await lookUp(RUN, { gateway: `${url}/` })).state, "cancelled");
  assert.deepEqual(asked.map(({ method, path }) => `${method} ${path}`), [`DELETE /run/${RUN}`, `GET /run/${RUN}`]);
  answer = (_, response) => response.writeHead(410).end("no longer kept\n");
  await assert.rejects(stop(RUN, { gateway: url }), { name: "RunExpired", run: RUN });
  await assert.rejects(stop("nonsense", { gateway: url }), TypeError);
});

test("a beacon asks the run to stop", (t) => {
  const sent = [];
  Object.defineProperty(navigator, "sendBeacon", { value: (url) => sent.push(url) > 0, configurable: true });
  t.after(() => delete navigator.sendBeacon);
  assert.equal(stopBeacon(RUN, "https://fn.example.com"), true);
  assert.deepEqual(sent, [`https://fn.example.com/run/${RUN}/stop`]);
});

test("the gateway is found in a function's URL, also below a prefix", () => {
  const found = ["https://a.b/function/f/x?y", "https://a.b/p/q/function/f", "http://a:1/async-function/f", "https://f.b/"];
  assert.deepEqual(found.map((text) => gatewayOf(new URL(text))), ["https://a.b", "https://a.b/p/q", "http://a:1", "https://f.b"]);
  assert.equal(runUrl(`https://a.b/p/run/${RUN}/stream?after=3`), `https://a.b/p/run/${RUN}`);
});

test("`after` is an event of the run", () => {
  for (const after of ["nonsense", -1, 1.5, `${"b".repeat(26)}-3`]) {
    assert.throws(() => attach(RUN, { gateway: url, after }), TypeError);
  }
});

test("errors are one tree", () => {
  assert.ok(new ConnectionLost("x") instanceof StreamError);
  assert.equal(new ConnectionLost("x").name, "ConnectionLost");
});

test("the whole client with its parser is below 6 KB gzipped", () => {
  const file = readFileSync(new URL("../dist/tailrace-client.min.js", import.meta.url));
  assert.ok(gzipSync(file, { level: 9 }).length < 6 * 1024, `${file.length} bytes, gzipped ${gzipSync(file).length}`);
});
