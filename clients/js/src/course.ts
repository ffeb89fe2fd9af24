/**
 * How far a stream has come and what to do next. Pure: it is told what happened, and answers or throws.
 * `tailrace.client.course` is the same in Python.
 */
import { ConnectionLost, HttpError, RunExpired, RunFailed, RunStopped, type StreamError } from "./errors.js";

/** One event of a stream. */
export interface StreamEvent {
  /** The event's type, `message` when it names none. */
  event: string;
  data: string;
  /** `<run>-<number>`; undefined where the stream's dialect has no ids. */
  id: string | undefined;
}

/** A run as `GET /run/<id>` shows it; instants are RFC 3339. */
export interface RunRecord {
  id: string;
  function: string;
  state: "queued" | "starting" | "streaming" | "done" | "failed" | "cancelled";
  end_reason: string;
  error: string;
  events: number;
  bytes: number;
  [more: string]: unknown;
}

/** What to do with an answer, an event or an end: read on, pass it over, it is over, ask again, look at the record. */
export type Verdict = "read" | "skip" | "done" | "again" | "look";

const EVENT_ID = /^([a-z2-7]{26})-(\d{1,9})$/;
const RUN_ID = /^[a-z2-7]{26}$/;
// Failures of one viewer, not of the run: it is asked again.
const STOPPED = "cancelled";
const TOO_SLOW = "viewer_too_slow";
const PASSING = new Set([TOO_SLOW, "runs_unavailable"]);
// What is longer than a day is no word of a gateway.
const SECONDS = /^\d{1,5}$/;
const FIRST_MS = 200;
const LONGEST_MS = 15_000;

/** Whether text is the id of a run. */
export const isRunId = (text: string): boolean => RUN_ID.test(text);

export class Course {
  run: string | undefined;
  /** Number of the last event that was given out, where events have numbers. */
  after: number;
  /** Attempts in a row that brought nothing. */
  failures = 0;
  private isNumbered: boolean;
  private isWatching = false;
  private readonly isAttached: boolean;
  private isNative = false;
  private given = 0;
  private toSkip = 0;
  private floorMs = 0;

  /**
   * @param attempts How many attempts in a row may bring nothing; 0: the stream is not resumed.
   * @param run The run to watch, from the event after this number; without one a call is made.
   */
  constructor(
    private readonly attempts: number,
    run?: string,
    after = 0,
  ) {
    this.run = run;
    this.after = after;
    this.isAttached = this.isNumbered = run !== undefined;
  }

  /** What to ask: `call`, the request itself, which its key makes the same call; `watch`, the run after `after`. */
  next(): "call" | "watch" {
    if (!this.isNumbered) this.toSkip = this.given;
    this.isWatching = this.run !== undefined;
    return this.isWatching ? "watch" : "call";
  }

  /** Whether an answer with this status has a body of events. `callId`, `type`, `dialect`: its headers. */
  replied(
    status: number,
    headers: { callId: string; type: string; dialect: string; retryAfter: string },
    body = "",
  ): Verdict {
    const { callId } = headers;
    if (status < 300 && isRunId(callId)) this.run ??= callId;
    if (status === 204) return "look";
    if (status < 300) {
      if (!headers.type.startsWith("text/event-stream"))
        throw new HttpError(status, body, `expected text/event-stream, the answer is ${headers.type || "of no type"}`, callId);
      this.isNative ||= headers.dialect === "native";
      return "read";
    }
    const message = body.split("\n", 1)[0] || `the answer's status is ${status}`;
    if (status === 410) throw new RunExpired(message, this.run);
    this.floorMs = SECONDS.test(headers.retryAfter) ? 1000 * Number(headers.retryAfter) : 0;
    if (this.isWatching) {
      if (status >= 500) return "look"; // a proxy's, the gateway's, or that of a run which never began
      if (status === 408 || status === 429) return "again";
      if (status === 404 && !this.isAttached)
        throw new ConnectionLost(`the connection broke, and the gateway does not know run ${this.run}`, this.run);
    } else if (!callId && [502, 503, 504].includes(status)) {
      return "again"; // a proxy's words: the gateway names each of its calls
    }
    throw new HttpError(status, body, message, callId || this.run);
  }

  /** Something came that is no event: the connection is alive. */
  heard(): void {
    this.failures = 0;
  }

  /** Whether the event is to be given out. Throws the failure that it tells. */
  event(event: StreamEvent): Verdict {
    const found = EVENT_ID.exec(event.id ?? "");
    if (found) this.run ??= found[1];
    const number = found && found[1] === this.run ? Number(found[2]) : 0;
    if (number) {
      if (this.isNumbered && number <= this.after) return "skip";
      this.isNumbered = true;
      this.after = number;
    }
    const isState = event.event === "status" && event.data.startsWith('{"state":');
    if (this.toSkip > 0 && !isState) {
      this.toSkip -= 1;
      return "skip";
    }
    this.failures = 0;
    if (event.event === "end" && event.data === "{}") return "done";
    const failure = this.failureIn(event);
    if (failure) {
      if (PASSING.has(failure.code)) return "again";
      throw failed(failure.code, failure.message, this.run);
    }
    if (!isState) this.given += 1;
    return "read";
  }

  /** The body ended as a whole body does. */
  ended(): Verdict {
    return this.isNative || this.isWatching || this.isNumbered ? "again" : "done";
  }

  /** The run's record, which was looked up. Throws what became of the run when that is no end. */
  looked(record: RunRecord): Verdict {
    if (record.state === "done") return "done";
    if (record.state !== "failed" && record.state !== "cancelled") return "again";
    const code = record.state === "cancelled" ? STOPPED : record.end_reason;
    throw failed(code, record.error || `the run ended: ${record.end_reason}`, this.run);
  }

  /** Milliseconds to wait before the next attempt; `random` is from 0 to 1. Throws when it was the last one. */
  pause(random: number, cause?: unknown): number {
    this.failures += 1;
    if (this.failures > this.attempts) throw this.lost(cause);
    const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** (this.failures - 1));
    const floor = this.floorMs;
    this.floorMs = 0;
    return floor + random * longest;
  }

  private lost(cause: unknown): StreamError {
    const tried = this.attempts ? `, and ${this.attempts} attempts to go on brought nothing` : "";
    return new ConnectionLost(`the connection was lost before the answer's end${tried}`, this.run, { cause });
  }

  /** The platform's failure in an event, in each dialect's form. */
  private failureIn({ event, data }: StreamEvent): { code: string; message: string } | undefined {
    const isNamed = event === "error";
    if (!isNamed && !data.startsWith('{"error":{') && !data.startsWith('{"type":"error"')) return undefined;
    const told = parse(data);
    const error = isNamed ? told : told?.error;
    if (isText(error?.code) && isText(error.message) && isText(error.call_id)) {
      const isOurs = isNamed || error.call_id === this.run;
      return isOurs ? { code: error.code, message: error.message } : undefined;
    }
    const message = told?.errorText; // the AI SDK's form, which has no place for a code
    if (!this.run || !isText(message) || !message.endsWith(`(call ${this.run})`)) return undefined;
    return { code: message.includes(`go on at /run/${this.run}/`) ? TOO_SLOW : "run_failed", message };
  }
}

const isText = (value: unknown): value is string => typeof value === "string";

function failed(code: string, message: string, run: string | undefined): RunFailed {
  return code === STOPPED ? new RunStopped(code, message, run) : new RunFailed(code, message, run);
}

function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
