/** Waits that end early when going on has become likely to succeed. */

/**
 * Resolves after `ms`, or as soon as the page is seen again or the network is back: in a hidden tab timers run
 * late. Rejects with the signal's reason.
 */
export function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const seen = (): void => {
      if (document.visibilityState === "visible") done();
    };
    const abort = (): void => {
      clear();
      reject(signal!.reason);
    };
    const done = (): void => {
      clear();
      resolve();
    };
    const page = globalThis.document as Document | undefined;
    const timer = setTimeout(done, ms);
    const clear = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      page?.removeEventListener("visibilitychange", seen);
      globalThis.removeEventListener?.("online", done);
    };
    if (signal?.aborted) return abort();
    signal?.addEventListener("abort", abort);
    page?.addEventListener("visibilitychange", seen);
    globalThis.addEventListener?.("online", done);
  });
}
