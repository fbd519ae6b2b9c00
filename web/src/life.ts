/** A worker of this page from its start to its end, which is noticed however it comes. */
import { type Remote, releaseProxy, wrap } from "comlink";
import type { Living, Outcome } from "./crossing.js";
import { RuvllmError, toRuvllmError } from "./errors.js";

// Where there are no Web Locks, a worker that somebody waits for is asked now and then.
const PULSE = 5_000; // ms
const PATIENCE = 24; // times without an answer: it may have work that takes a minute at once

/** One worker; who asks a dead one is told so. */
export class Life<R extends Living> {
  /** Why it is gone; "" while it lives. */
  gone = "";
  readonly #worker: Worker;
  readonly #remote: Remote<R>;
  readonly #error: (why: string) => RuvllmError;
  /** Those who wait, and are to be told of its end. A promise of the end would remember all who ever waited. */
  readonly #waiting = new Set<() => void>();
  #locked = false;
  #timer: ReturnType<typeof setInterval> | undefined;

  /**
   * @param error for those who wait when it ends, or ask later
   */
  constructor(script: URL, name: string, error: (why: string) => RuvllmError) {
    this.#error = error;
    this.#worker = startWorker(script, name);
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.end(event.message || "its script could not be loaded");
    });
    this.#remote = wrap<R>(this.#worker);
  }

  /** Notice its end: the worker holds a lock as long as it lives, so it is granted here once it is gone. */
  async watch(): Promise<void> {
    const name = `ruvllm-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
    this.#locked = Boolean(navigator.locks) && (await this.ask((remote) => (remote as Remote<Living>).hold(name)));
    if (this.#locked) void navigator.locks.request(name, () => this.end("it stopped")).catch(() => undefined);
  }

  /** A value, or the error that it tells, or that the worker is gone. */
  ask<T>(question: (remote: Remote<R>) => Promise<Outcome<T>>, field = "worker"): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(this.#error(this.gone));
      if (this.gone) return stop();
      this.#waiting.add(stop);
      if (!this.#locked) this.#pulse();
      question(this.#remote)
        .then(
          (outcome) => ("error" in outcome ? reject(new RuvllmError(outcome.error.message, outcome.error)) : resolve(outcome.value)),
          (error: unknown) => reject(toRuvllmError(error, field)), // what cannot be cloned never leaves the page
        )
        .finally(() => this.#waiting.delete(stop));
    });
  }

  end(why: string): void {
    if (this.gone) return;
    this.gone = why;
    clearInterval(this.#timer);
    this.#remote[releaseProxy]();
    this.#worker.terminate();
    for (const stop of this.#waiting) stop();
    this.#waiting.clear();
  }

  #pulse(): void {
    let missed = 0;
    this.#timer ??= setInterval(() => {
      if (this.#locked || !this.#waiting.size) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      } else if (missed++ === 0) {
        void (this.#remote as Remote<Living>).pulse().then(() => (missed = 0), () => undefined);
      } else if (missed > PATIENCE) {
        this.end(`it gave no sign of life for ${(PATIENCE * PULSE) / 1000} seconds`);
      }
    }, PULSE);
  }
}

/** A worker may only come from the page's own origin: for another one, an import of it does. */
function startWorker(url: URL, name: string): Worker {
  if (url.origin === location.origin) return new Worker(url, { type: "module", name });
  const script = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  const address = URL.createObjectURL(script);
  try {
    return new Worker(address, { type: "module", name });
  } finally {
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
}
