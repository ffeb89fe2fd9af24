/**
 * What can become of a stream other than its end.
 *
 *     StreamError
 *     ├── RunFailed       the run ended with an error: the function's, or the platform's
 *     │   └── RunStopped  it was stopped before its end
 *     ├── RunExpired      the run's events are no longer kept
 *     ├── HttpError       the request was refused, by the gateway or by the function
 *     └── ConnectionLost  the connection broke and was given up; what became of the run is not known
 */
export class StreamError extends Error {
  /** The run's id, once it is known: the call's id in logs. */
  readonly run: string | undefined;

  constructor(message: string, run?: string, options?: ErrorOptions) {
    super(message, options);
    this.run = run;
  }

  static {
    this.prototype.name = "StreamError";
  }
}

/** The run ended with an error after it had begun. What came before is all there is. */
export class RunFailed extends StreamError {
  /** What happened, in a form that does not change: `function_failed`, `timeout_idle`, `replica_lost`, ... */
  readonly code: string;

  constructor(code: string, message: string, run?: string) {
    super(message, run);
    this.code = code;
  }

  static {
    this.prototype.name = "RunFailed";
  }
}

/** The run was stopped: by somebody, or because nobody read it any more. What came before is all there is. */
export class RunStopped extends RunFailed {
  static {
    this.prototype.name = "RunStopped";
  }
}

/** The run's events are no longer kept: what is missing cannot be had any more. */
export class RunExpired extends StreamError {
  static {
    this.prototype.name = "RunExpired";
  }
}

/** The answer has a status that is no success, or is no event stream. */
export class HttpError extends StreamError {
  readonly status: number;
  /** The answer's text; its first line is the message of a refusal of the gateway. */
  readonly body: string;

  constructor(status: number, body: string, message: string, run?: string) {
    super(message, run);
    this.status = status;
    this.body = body;
  }

  static {
    this.prototype.name = "HttpError";
  }
}

/** The connection broke, and going on was not possible or brought nothing. `cause` is the last failure. */
export class ConnectionLost extends StreamError {
  static {
    this.prototype.name = "ConnectionLost";
  }
}
