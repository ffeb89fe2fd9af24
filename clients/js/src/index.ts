export { attach, stream, Stream } from "./stream.js";
export type { AttachOptions, StreamOptions, StreamState } from "./stream.js";
export { lookUp, stop, stopBeacon } from "./runs.js";
export type { Reach } from "./runs.js";
export type { RunRecord, StreamEvent } from "./course.js";
export { ConnectionLost, HttpError, RunExpired, RunFailed, RunStopped, StreamError } from "./errors.js";
