/** The module worker: an engine behind Comlink. */
import { expose, transfer } from "comlink";
import { living, type Method, type Outcome, type RemoteRouter, type WorkerOptions } from "./crossing.js";
import { Engine } from "./engine.js";
import { RuvllmError, toRuvllmError } from "./errors.js";
import { keepSnapshot } from "./python.js";
import { Ledger, type SiteIndex } from "./site.js";
import { openStateStore } from "./state.js";
import type { LoadProgress } from "./types.js";
import { countFetches, WebSite } from "./websites.js";

let engine: Engine | undefined;

/** Buffers cross by transfer: nothing of the engine needs them any more. */
function crossing(value: unknown): Outcome<unknown> {
  if (value instanceof Uint8Array) return transfer({ value }, [value.buffer as ArrayBuffer]);
  const data = (value as { data?: unknown } | null | undefined)?.data;
  if (data instanceof Float32Array) return transfer({ value }, [data.buffer as ArrayBuffer]);
  return { value };
}

const remote: RemoteRouter = {
  ...living,
  async start(options: WorkerOptions, onProgress?: (progress: LoadProgress) => void): Promise<Outcome<null>> {
    try {
      const base = new URL(options.base);
      const ledger = new Ledger(onProgress && ((progress) => onProgress(progress)));
      countFetches(base, ledger);
      const store = await openStateStore(options.state);
      const site = new WebSite(base, options.index, options.offline);
      engine = await Engine.boot({ site, ledger, store }, options);
      return { value: null };
    } catch (error) {
      return { error: toRuvllmError(error).toJSON() };
    }
  },
  async keepSnapshot(base: string, index: SiteIndex): Promise<Outcome<boolean>> {
    try {
      return { value: await keepSnapshot(new WebSite(new URL(base), index)) };
    } catch (error) {
      return { error: toRuvllmError(error).toJSON() };
    }
  },
  async call(method: Method, args: unknown[]): Promise<Outcome<unknown>> {
    try {
      if (!engine) throw new RuvllmError("the worker has not been started");
      const work = engine[method] as (...args: unknown[]) => Promise<unknown>;
      return crossing(await work.apply(engine, args));
    } catch (error) {
      // Python's own exceptions come as RuvllmErrors: anything else is the interpreter's end, and so this worker's.
      if (!(error instanceof RuvllmError)) setTimeout(() => globalThis.close(), 0);
      return { error: toRuvllmError(error, "worker").toJSON() };
    }
  },
};

expose(remote);
