/** Streams of events that go on after a cut connection: the loop around `Course`. */
import { createParser } from "eventsource-parser";
import { Course, type RunRecord, type StreamEvent, type Verdict } from "./course.js";
import { ConnectionLost, HttpError, StreamError } from "./errors.js";
import { gatewayOf, here, lookUp, runUrl, stop, type Reach } from "./runs.js";
import { wait } from "./waiting.js";

/** What a stream is doing: asking, reading, or waiting `waitMs` before it asks again because of `cause`. */
export type StreamState =
  | { state: "connecting" | "streaming" | "over" }
  | { state: "waiting"; waitMs: number; cause: unknown };

interface Common extends Reach {
  /** Abort = leave: the run ends, or not, by its disconnect policy. `Stream.stop` stops it. */
  signal?: AbortSignal | undefined;
  /** Attempts in a row that may bring nothing before `ConnectionLost`. Default 12, which is about a minute. */
  attempts?: number | undefined;
  /** Milliseconds without a byte, heartbeats included, after which the connection is taken for dead. Default 45 s. */
  silenceMs?: number | undefined;
  /** Told of each change, for what a page shows. */
  onState?: ((state: StreamState) => void) | undefined;
}

export interface StreamOptions extends Common {
  /** `POST` with a body, else `GET`. */
  method?: string | undefined;
  /** Read whole before it is sent, so that it can be sent again. */
  body?: BodyInit | null | undefined;
  /** Whether to record the run and go on after a cut. Default true; false: one request, as it is. */
  resume?: boolean | undefined;
  /** The call's `Idempotency-Key`: the same key and request never start a second run. Default: that of `headers`, else random. */
  key?: string | undefined;
  /** What becomes of the run when nobody reads it any more, within what the function allows. */
  onDisconnect?: "cancel" | "continue" | `grace:${string}` | undefined;
}

export interface AttachOptions extends Common {
  /** Begin after this event: its id or its number. Default: from the start. */
  after?: string | number | undefined;
}

/** The events of one run, to be read once with `for await`. */
export class Stream implements AsyncIterable<StreamEvent> {
  /** The run's id, as soon as it is known. Rejects when the stream ends before. */
  readonly started: Promise<string>;
  private begun!: (run: string) => void;
  private never!: (why: unknown) => void;
  private isRead = false;

  /** @internal */
  constructor(
    private readonly course: Course,
    private readonly ask: (course: Course, signal: AbortSignal) => Promise<Response>,
    private readonly gateway: string,
    private readonly options: Common,
  ) {
    this.started = new Promise((resolve, reject) => {
      this.begun = resolve;
      this.never = reject;
    });
    this.started.catch(() => {}); // who does not ask for it is not told either
    if (course.run) this.begun(course.run);
  }

  /** The run's id; undefined while it is not known. */
  get run(): string | undefined {
    return this.course.run;
  }

  /** The id of the last event that was given out, for `attach` with `after`; undefined where there are no ids. */
  get lastEventId(): string | undefined {
    return this.course.after ? `${this.course.run}-${this.course.after}` : undefined;
  }

  /** Stops the run, as soon as its id is known; the stream then throws `RunStopped`. Resolves to its record. */
  async stop(): Promise<RunRecord> {
    return stop(await this.started, { ...this.options, gateway: this.gateway });
  }

  /** The events. Leaving the loop leaves the run, as `signal` does. */
  async *[Symbol.asyncIterator](): AsyncGenerator<StreamEvent, void, undefined> {
    if (this.isRead) throw new TypeError("a stream is read once; attach() to its run to read it again");
    this.isRead = true;
    const tell = this.options.onState ?? (() => {});
    let end: unknown = new StreamError("the stream was left", this.run);
    try {
      for (;;) {
        let verdict: Verdict = "again";
        let cause: unknown;
        tell({ state: "connecting" });
        try {
          verdict = yield* this.connection(tell);
          if (verdict === "look") verdict = this.course.looked(await this.record());
        } catch (error) {
          if (!(error instanceof Broken)) throw error;
          cause = error.cause;
        }
        if (verdict === "done") return;
        const waitMs = this.course.pause(Math.random(), cause);
        tell({ state: "waiting", waitMs, cause });
        await wait(waitMs, this.options.signal);
      }
    } catch (error) {
      throw (end = error);
    } finally {
      this.never(end);
      tell({ state: "over" });
    }
  }

  /** One connection: its events, and how it ended. It is closed when this is left, however that is. */
  private async *connection(tell: (state: StreamState) => void): AsyncGenerator<StreamEvent, Verdict, undefined> {
    const { course } = this;
    const line = new Line(this.options.silenceMs ?? 45_000, this.options.signal);
    try {
      const reply = await line.until(this.ask(course, line.signal));
      const verdict = await this.look(reply, line);
      if (course.run) this.begun(course.run);
      if (verdict !== "read") return verdict;
      tell({ state: "streaming" });
      const events: StreamEvent[] = [];
      const parser = createParser({
        onEvent: ({ event = "message", data, id }) => events.push({ event, data, id }),
        onComment: () => course.heard(),
      });
      const text = new TextDecoder();
      const reader = reply.body!.getReader();
      for (;;) {
        const { done, value } = await line.until(reader.read());
        if (done) return course.ended();
        parser.feed(text.decode(value, { stream: true }));
        for (const event of events.splice(0)) {
          const verdict = course.event(event);
          if (course.run) this.begun(course.run);
          if (verdict === "read") yield event;
          else if (verdict !== "skip") return verdict;
        }
      }
    } finally {
      line.close();
    }
  }

  private async look(reply: Response, line: Line): Promise<Verdict> {
    const header = (name: string): string => reply.headers.get(name) ?? "";
    const type = header("content-type");
    const isWhole = !reply.ok || !type.startsWith("text/event-stream");
    return this.course.replied(
      reply.status,
      { callId: header("x-call-id"), type, dialect: header("x-tailrace-dialect"), retryAfter: header("retry-after") },
      isWhole ? await line.until(reply.text()) : "",
    );
  }

  private async record(): Promise<RunRecord> {
    const line = new Line(this.options.silenceMs ?? 45_000, this.options.signal);
    try {
      return await line.until(lookUp(this.run!, { ...this.options, gateway: this.gateway }, line.signal));
    } catch (broken) {
      if (!(broken instanceof Broken)) throw broken;
      const error = broken.cause;
      // A gateway that has no answer now may have one soon.
      const isFinal = error instanceof StreamError && !(error instanceof HttpError && error.status >= 500);
      throw isFinal ? error : broken;
    } finally {
      line.close();
    }
  }
}

/** One connection's life: over when it is silent for too long, when its stream is left, and at its end. */
class Line {
  private readonly controller = new AbortController();
  readonly signal = this.controller.signal;
  private readonly leave = (): void => this.controller.abort(this.parent!.reason);

  constructor(
    private readonly silenceMs: number,
    private readonly parent: AbortSignal | undefined,
  ) {
    if (parent?.aborted) this.leave();
    parent?.addEventListener("abort", this.leave);
  }

  /** What comes of the promise, unless nothing does for too long. */
  async until<T>(coming: Promise<T>): Promise<T> {
    const silent = new TypeError(`nothing came for ${this.silenceMs} ms, not even a heartbeat`);
    const timer = setTimeout(() => this.controller.abort(silent), this.silenceMs);
    try {
      return await coming;
    } catch (error) {
      this.parent?.throwIfAborted();
      throw new Broken(error);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.parent?.removeEventListener("abort", this.leave);
    this.controller.abort();
  }
}

/** A connection failed; `cause` says how. */
class Broken extends Error {
  constructor(cause: unknown) {
    super("the connection broke", { cause });
  }
}

/**
 * Calls a function and reads its events, across cut connections, exactly once each and in order.
 * The run is started once: it is recorded, and the request carries a key.
 */
export function stream(url: string | URL, options: StreamOptions = {}): Stream {
  const target = new URL(url, here() || undefined);
  const gateway = options.gateway ?? gatewayOf(target);
  const isResumed = options.resume ?? true;
  const method = options.method ?? (options.body == null ? "GET" : "POST");
  const headers = new Headers(options.headers);
  const own = new Headers(headers); // what goes with requests about the run
  if (!headers.has("accept")) headers.set("accept", "text/event-stream");
  if (isResumed) {
    headers.set("x-tailrace-record", "1");
    headers.set("idempotency-key", options.key ?? headers.get("idempotency-key") ?? randomKey());
    if (options.onDisconnect) headers.set("x-tailrace-on-disconnect", options.onDisconnect);
  }
  own.delete("content-type");
  own.delete("idempotency-key");
  new Request(target, { method, headers, body: options.body == null ? null : "" }); // throws what cannot be sent
  let body: Promise<ArrayBuffer> | undefined;
  const call = async (signal: AbortSignal): Promise<Response> => {
    if (options.body != null && !body) {
      const whole = new Response(options.body);
      const type = whole.headers.get("content-type");
      if (type && !headers.has("content-type")) headers.set("content-type", type);
      body = whole.arrayBuffer();
    }
    const init: RequestInit = { method, headers, cache: "no-store", signal };
    if (options.credentials) init.credentials = options.credentials;
    if (body) init.body = await body;
    return (options.fetch ?? fetch)(target, init);
  };
  const common = { ...options, headers: own };
  const course = new Course(isResumed ? (options.attempts ?? 12) : 0);
  const ask = (course: Course, signal: AbortSignal): Promise<Response> =>
    course.next() === "call" ? call(signal) : watch(course, gateway, common, signal);
  return new Stream(course, ask, gateway, common);
}

/**
 * Reads a run's events from the start or after one of them, and then as they come.
 * @param run The run's id or URL.
 */
export function attach(run: string, options: AttachOptions = {}): Stream {
  const url = runUrl(run, options.gateway);
  const [gateway, id] = [url.slice(0, url.lastIndexOf("/run/")), url.slice(url.lastIndexOf("/") + 1)];
  const after = Number(String(options.after ?? 0).replace(`${id}-`, ""));
  if (!Number.isInteger(after) || after < 0) throw new TypeError(`after: expected an event of run ${id}, not ${options.after}`);
  const ask = (course: Course, signal: AbortSignal): Promise<Response> => {
    course.next();
    return watch(course, gateway, options, signal);
  };
  return new Stream(new Course(options.attempts ?? 12, id, after), ask, gateway, options);
}

function watch({ run, after }: Course, gateway: string, options: Common, signal: AbortSignal): Promise<Response> {
  const headers = new Headers(options.headers);
  if (!headers.has("accept")) headers.set("accept", "text/event-stream");
  const init: RequestInit = { headers, cache: "no-store", signal };
  if (options.credentials) init.credentials = options.credentials;
  return (options.fetch ?? fetch)(`${runUrl(run!, gateway)}/stream?format=sse&after=${after}`, init);
}

// 128 random bits. `crypto.randomUUID` exists in secure contexts alone.
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
