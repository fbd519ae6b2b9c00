/** The page's side: one module worker, started again if it dies, behind the interface of every router. */
import { proxy, transfer } from "comlink";
import type { Method, RemoteRouter } from "./crossing.js";
import { closedError, notNew, RuvllmError } from "./errors.js";
import { Life } from "./life.js";
import { cache } from "./kept.js";
import { stateBytes } from "./plain.js";
import { type Call, CHANGES, Runtime } from "./runtime.js";
import type { SiteIndex } from "./site.js";
import type { Added, Agent, AgentFile, LoadOptions, LoadProgress } from "./types.js";
import { loadOptions, until } from "./waiting.js";
import { builtFolder, fetchIndex } from "./websites.js";

/** Asking again does no harm after the worker has died; anything else the caller must decide on. */
function repeatable(method: Method, [call]: unknown[]): boolean {
  return method === "export" || (method === "ask" && call !== "record_outcome" && !CHANGES.has(call as Call));
}

function died(why: string): RuvllmError {
  const fix = "ask again: it starts anew with what was kept";
  return new RuvllmError(`the worker died: ${why}`, { name: "WorkerError", field: "worker", fix });
}

/** Routes in a worker of this page. */
export class RuvLLM extends Runtime {
  /** What this browser keeps of ruvllm's files. */
  static readonly cache = cache;
  readonly #base: URL;
  readonly #index: SiteIndex;
  readonly #options: LoadOptions;
  /** What `addAgents` was given and this browser does not keep, for a worker that has to start again. */
  #added: (Agent[] | AgentFile[])[] = [];
  #life: Promise<Life<RemoteRouter>> | undefined;
  #starting: Life<RemoteRouter> | undefined;
  #closed = false;

  private constructor(base: URL, index: SiteIndex, options: LoadOptions) {
    if (!index) throw notNew("RuvLLM", "RuvLLM.load({ … })");
    super();
    this.#base = base;
    this.#index = index;
    this.#options = options;
  }

  /**
   * Start it. Resolves when it routes by the static table; RuvLTRA goes on loading behind it.
   *
   * @throws RuvllmError when the folder cannot be fetched, is damaged, or no agent can be used; the signal's reason
   */
  static async load(given?: LoadOptions): Promise<RuvLLM> {
    const { signal, ...options } = loadOptions(given);
    const base = builtFolder(options.baseURL, import.meta.url);
    const llm = new RuvLLM(base, await until(signal, () => fetchIndex(base)), options);
    try {
      await until(signal, () => llm.#alive(options.onProgress));
    } catch (error) {
      llm.#closed = true;
      llm.#starting?.end("it was given up");
      throw error;
    }
    return llm;
  }

  ask<T>(call: Call, body: object = {}): Promise<T> {
    return this.#call("ask", [call, body]);
  }

  override async addAgents(agents: Agent[] | AgentFile[]): Promise<Added> {
    const added = await super.addAgents(agents);
    if (!added.kept) this.#added.push(agents);
    return added;
  }

  override async resetAgents(): Promise<Added> {
    const reset = await super.resetAgents();
    this.#added = [];
    return reset;
  }

  export(): Promise<Uint8Array> {
    return this.#call("export", []);
  }

  async import(bytes: Uint8Array): Promise<void> {
    const copy = stateBytes(bytes);
    await this.#call("import", [transfer(copy, [copy.buffer])]);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const life = this.#life;
    this.#closed = true;
    this.#life = undefined;
    const alive = await life?.catch(() => undefined);
    await alive?.ask((remote) => remote.call("close", [])).catch(() => undefined);
    alive?.end("it was closed");
  }

  /** The worker, started if there is none. */
  async #alive(onProgress?: (progress: LoadProgress) => void): Promise<Life<RemoteRouter>> {
    for (;;) {
      if (this.#closed) throw closedError("router");
      const starting = (this.#life ??= this.#start(onProgress));
      const life = await starting.catch((error: unknown) => {
        if (this.#life === starting) this.#life = undefined;
        throw error;
      });
      if (!life.gone) return life;
      if (this.#life === starting) this.#life = undefined;
    }
  }

  async #start(onProgress?: (progress: LoadProgress) => void): Promise<Life<RemoteRouter>> {
    const { snapshot = true } = this.#options;
    const settled = (progress: LoadProgress): void => {
      onProgress?.(progress);
      const last = this.#options.encoder === "static" ? "ready" : "ruvltra";
      if (snapshot && progress.stage === last && progress.loaded === progress.total) this.#keepSnapshot();
    };
    try {
      return await this.#startOnce(snapshot, settled);
    } catch (error) {
      if (!snapshot || this.#closed || (error as Error).name !== "WorkerError") throw error;
      return this.#startOnce(false, settled); // it died: perhaps of the snapshot
    }
  }

  async #startOnce(snapshot: boolean, onProgress: (progress: LoadProgress) => void): Promise<Life<RemoteRouter>> {
    const life = (this.#starting = this.#born());
    try {
      await life.watch();
      const { agents, encoder, device, dtype, state = "persistent", offline, reviewAfter } = this.#options;
      const given = { agents, encoder, device, dtype, state, snapshot, offline, reviewAfter };
      const told = { base: this.#base.href, index: this.#index, ...given };
      await life.ask((remote) => remote.start(told, proxy(onProgress)), "options");
      for (const agents of this.#added) await life.ask((remote) => remote.call("ask", ["add_agents", { agents }]));
      return life;
    } catch (error) {
      life.end("it did not start");
      throw error;
    }
  }

  #born(): Life<RemoteRouter> {
    return new Life<RemoteRouter>(new URL(this.#index.worker, this.#base), "ruvllm", died);
  }

  /** For the next visit, when this one has all it needs and the page has nothing better to do. */
  #keepSnapshot(): void {
    const keep = async (): Promise<void> => {
      if (this.#closed) return;
      const helper = this.#born();
      await helper.ask((remote) => remote.keepSnapshot(this.#base.href, this.#index)).catch(() => undefined);
      helper.end("it is done");
    };
    const soon = globalThis.requestIdleCallback ?? ((work: () => void) => setTimeout(work, 1_000));
    soon(() => void keep());
  }

  async #call<T>(method: Method, args: unknown[]): Promise<T> {
    for (let again = false; ; again = true) {
      const life = await this.#alive();
      try {
        return (await life.ask((remote) => remote.call(method, args), String(args[0] ?? method))) as T;
      } catch (error) {
        if (this.#closed) throw closedError("router");
        if (again || !life.gone || !repeatable(method, args)) throw error;
      }
    }
  }
}
