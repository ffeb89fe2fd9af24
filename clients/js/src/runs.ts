/** Where a run is, and what can be done with it without watching it. */
import type { RunRecord } from "./course.js";
import { isRunId } from "./course.js";
import { HttpError, RunExpired } from "./errors.js";

/** How a gateway is reached. */
export interface Reach {
  /** Where the gateway is, as in `https://fn.example.com`, when that is not where the request goes. */
  gateway?: string | undefined;
  /** Sent with every request: `Authorization` where the function asks for it. */
  headers?: HeadersInit | undefined;
  /** Whether cookies go to another origin, as for `fetch`. */
  credentials?: RequestCredentials | undefined;
  /** Used instead of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** The URL of a run: from its own URL, or its id and where the gateway is (the page's own origin by default). */
export function runUrl(run: string, gateway?: string): string {
  if (isRunId(run)) return `${(gateway ?? here()).replace(/\/+$/, "")}/run/${run}`;
  const found = /^(.*\/run\/[a-z2-7]{26})(?:\/stream)?(?:[?#].*)?$/.exec(new URL(run, here() || undefined).href);
  if (!found) throw new TypeError(`expected the id or the URL of a run, not ${run}`);
  return found[1]!;
}

/** The gateway that a function's URL belongs to, also below a prefix. */
export const gatewayOf = (url: URL): string => url.origin + (/^(.*?)\/(?:async-)?function\//.exec(url.pathname)?.[1] ?? "");

/** Where relative URLs begin; empty outside of pages. */
export const here = (): string => globalThis.location?.origin ?? "";

/**
 * Stops a run, whoever watches it, and resolves to its record. A run that is over stays as it is.
 * Rejects with `RunExpired` or `HttpError` when the gateway does not know it.
 */
export async function stop(run: string, reach: Reach = {}): Promise<RunRecord> {
  return askRun(runUrl(run, reach.gateway), reach, { method: "DELETE", keepalive: true });
}

/** What is known of a run. */
export async function lookUp(run: string, reach: Reach = {}, signal?: AbortSignal): Promise<RunRecord> {
  return askRun(runUrl(run, reach.gateway), reach, signal ? { signal } : {});
}

/**
 * Stops a run from a page that is being left, where a `fetch` may not be sent any more (`pagehide`).
 * Whether the browser has taken it. Only for functions without authorization: a beacon carries none.
 */
export function stopBeacon(run: string, gateway?: string): boolean {
  return navigator.sendBeacon(`${runUrl(run, gateway)}/stop`);
}

async function askRun(url: string, reach: Reach, init: RequestInit): Promise<RunRecord> {
  const reply = await (reach.fetch ?? fetch)(url, {
    ...init,
    cache: "no-store",
    ...(reach.headers && { headers: reach.headers }),
    ...(reach.credentials && { credentials: reach.credentials }),
  });
  if (reply.ok) return reply.json();
  const text = await reply.text();
  const message = text.split("\n", 1)[0] || `the gateway answered ${reply.status}`;
  const run = url.slice(url.lastIndexOf("/") + 1);
  throw reply.status === 410 ? new RunExpired(message, run) : new HttpError(reply.status, text, message, run);
}
