/** The same class in Node: in this process, from the same built folder on disk. */
import { builtHere, diskSite } from "./disk.js";
import { Engine } from "./engine.js";
import { notNew } from "./errors.js";
import { cache } from "./kept.js";
import { opener } from "./open.js";
import { stateBytes } from "./plain.js";
import { type Call, Runtime } from "./runtime.js";
import { Ledger } from "./site.js";
import type { LoadOptions } from "./types.js";
import { loadOptions, until } from "./waiting.js";

export { LocalModel } from "./llm/node.js";
export type * from "./llm/types.js";
export { RuvllmError } from "./errors.js";
export { HttpRouter } from "./http.js";
export { keepOffline, type Offline, type OfflineOptions, type OfflineState } from "./offline.js";
export type { CacheEntry } from "./kept.js";
export * from "./rlm.js";
export type { OpenOptions } from "./open.js";
export type * from "./runtime.js";
export type * from "./types.js";

/** Routes in this process. What is learnt stays in memory; `export` and `import` carry it. */
export class RuvLLM extends Runtime {
  /** Node has no cache of the kind: nothing is in it. */
  static readonly cache = cache;
  readonly #engine: Engine;

  private constructor(engine: Engine) {
    if (!(engine instanceof Engine)) throw notNew("RuvLLM", "RuvLLM.load({ … })");
    super();
    this.#engine = engine;
  }

  /**
   * Start it. Resolves when it routes by the static table; RuvLTRA goes on loading behind it.
   *
   * @param options `baseURL` is a file URL or a path; `state` has no effect here
   */
  static async load(given?: LoadOptions): Promise<RuvLLM> {
    const { signal, ...options } = loadOptions(given);
    const ledger = new Ledger(options.onProgress);
    const site = await diskSite(options.baseURL ?? builtHere(), ledger);
    const ortBinary = () => site.read(site.index.ort.wasm);
    const booting = Engine.boot({ site, ledger, ortBinary }, options);
    return new RuvLLM(
      await until(signal, () => booting).catch((error: unknown) => {
        void booting.then((engine) => engine.close()).catch(() => undefined);
        throw error;
      }),
    );
  }

  ask<T>(call: Call, body?: object): Promise<T> {
    return this.#engine.ask(call, body);
  }

  export(): Promise<Uint8Array> {
    return this.#engine.export();
  }

  async import(bytes: Uint8Array): Promise<void> {
    return this.#engine.import(stateBytes(bytes));
  }

  close(): Promise<void> {
    return this.#engine.close();
  }
}

/** A router: in this process, or with `endpoint` at an edge server. */
export const openRouter = opener((options) => RuvLLM.load(options));
