// The functions of one namespace, asked for again every two seconds, and a call whose answer is shown as it comes.
const EVERY_MS = 2000;
const SHOWN_CHARACTERS = 200_000;
const $ = (id) => document.getElementById(id);
let chosen = "";
let running = null;

async function ask(path) {
  const reply = await fetch(path, { headers: { Accept: "application/json" } });
  if (!reply.ok) throw new Error(`${reply.status}: ${(await reply.text()).slice(0, 300)}`);
  return reply.json();
}

function element(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function row(fn) {
  const own = fn.tailrace ?? {};
  const line = document.createElement("tr");
  const name = element("td", "");
  const pick = element("button", fn.name);
  pick.type = "button";
  pick.addEventListener("click", () => choose(fn));
  name.append(pick);
  const state = element("td", own.state ?? "", own.state);
  if (own.lastError) state.append(element("span", own.lastError, "why"));
  line.append(name, state);
  line.append(element("td", `${fn.availableReplicas ?? 0} of ${fn.replicas ?? 0}`, "number"));
  line.append(element("td", String(fn.invocationCount ?? 0), "number"));
  line.append(element("td", fn.image, "image"));
  return line;
}

async function show() {
  try {
    const namespace = $("namespace").value;
    const functions = await ask(`../system/functions?namespace=${encodeURIComponent(namespace)}`);
    $("functions").replaceChildren(...functions.map(row));
    $("none").hidden = functions.length > 0;
    $("problem").hidden = true;
  } catch (error) {
    $("problem").textContent = `The gateway does not answer: ${error.message}`;
    $("problem").hidden = false;
  }
}

function choose(fn) {
  chosen = `${fn.name}.${fn.namespace}`;
  $("name").textContent = chosen;
  $("try").hidden = false;
  $("body").focus();
}

function say(text) {
  const answer = $("answer");
  const isAtEnd = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 40;
  answer.textContent = (answer.textContent + text).slice(-SHOWN_CHARACTERS);
  if (isAtEnd) answer.scrollTop = answer.scrollHeight;
}

async function call(event) {
  event.preventDefault();
  running?.abort();
  const mine = (running = new AbortController());
  const began = performance.now();
  const seconds = () => `${((performance.now() - began) / 1000).toFixed(2)} s`;
  $("answer").textContent = "";
  $("timing").textContent = "";
  $("stop").disabled = false;
  try {
    const reply = await fetch(`../function/${chosen}`, { method: "POST", body: $("body").value, signal: mine.signal });
    const words = new TextDecoder();
    const reader = reply.body?.getReader(); // an answer such as 204 has none
    for (let first = ""; reader; ) {
      const { done, value } = await reader.read();
      if (done) break;
      first ||= seconds();
      say(words.decode(value, { stream: true }));
      $("timing").textContent = `${reply.status}, first byte after ${first}, ${seconds()} so far`;
    }
    $("timing").textContent = `${reply.status}, complete after ${seconds()}`;
  } catch (error) {
    const how = mine.signal.aborted ? "stopped" : "cut";
    if (running === mine) $("timing").textContent = `${how} after ${seconds()}`;
  } finally {
    if (running === mine) $("stop").disabled = true;
  }
}

async function begin() {
  $("call").addEventListener("submit", call);
  $("stop").addEventListener("click", () => running?.abort());
  $("namespace").addEventListener("change", show);
  try {
    const [names, info] = await Promise.all([ask("../system/namespaces"), ask("../system/info")]);
    $("namespace").replaceChildren(...names.map((name) => element("option", name)));
    if (names.includes("openfaas-fn")) $("namespace").value = "openfaas-fn";
    $("version").textContent = info.version.release;
  } catch (error) {
    $("problem").textContent = error.message;
    $("problem").hidden = false;
  }
  await show();
  setInterval(() => document.hidden || show(), EVERY_MS);
}

begin();
