/** The page's side: one module worker, started again if it dies, behind the interface of every router. */
import { proxy, type Remote, releaseProxy, transfer, wrap } from "comlink";
import type { Method, Outcome, RemoteRouter } from "./crossing.js";
import { RuvllmError, toRuvllmError } from "./errors.js";
import { type Call, CHANGES, type LocalRouter, Runtime } from "./runtime.js";
import type { SiteIndex } from "./site.js";
import type {
  Added, Agent, AgentFile, Decision, Embeddings, LoadOptions, LoadProgress, Stats, Team,
} from "./types.js";
import { fetchIndex, folder } from "./websites.js";

/** Asking again does no harm after the worker has died; anything else the caller must decide on. */
const REPEATABLE: ReadonlySet<Method> = new Set(["route", "routeComplex", "embed", "agents", "export", "stats"]);

function repeatable(method: Method, [call]: unknown[]): boolean {
  if (method !== "ask") return REPEATABLE.has(method);
  return call !== "record_outcome" && !CHANGES.has(call as Call);
}

/** Routes in a worker of this page. */
export class RuvLLM extends Runtime implements LocalRouter {
  readonly #base: URL;
  readonly #index: SiteIndex;
  readonly #options: LoadOptions;
  /** What `addAgents` was given and this browser does not keep, for a worker that has to start again. */
  #added: (Agent[] | AgentFile[])[] = [];
  #life: Promise<Life> | undefined;
  #closed = false;

  private constructor(base: URL, index: SiteIndex, options: LoadOptions) {
    super();
    this.#base = base;
    this.#index = index;
    this.#options = options;
  }

  /**
   * Start it. Resolves when it routes by the static table; RuvLTRA goes on loading behind it.
   *
   * @throws RuvllmError when the folder cannot be fetched, is damaged, or no agent can be used
   */
  static async load(options: LoadOptions = {}): Promise<RuvLLM> {
    const base = folder(options.baseURL ?? new URL(/* @vite-ignore */ "./", import.meta.url));
    const llm = new RuvLLM(base, await fetchIndex(base), options);
    await llm.#alive(options.onProgress);
    return llm;
  }

  route(text: string, options: { top?: number } = {}): Promise<Decision> {
    return this.#call("route", [text, options]);
  }

  routeComplex(text: string): Promise<Team> {
    return this.#call("routeComplex", [text]);
  }

  embed(texts: string[]): Promise<Embeddings> {
    return this.#call("embed", [texts]);
  }

  async addAgents(agents: Agent[] | AgentFile[]): Promise<Added> {
    const added = await this.#call<Added>("addAgents", [agents]);
    if (!added.kept) this.#added.push(agents);
    return added;
  }

  async resetAgents(): Promise<Added> {
    const reset = await this.#call<Added>("resetAgents", []);
    this.#added = [];
    return reset;
  }

  agents(): Promise<Agent[]> {
    return this.#call("agents", []);
  }

  feedback(text: string, agent: string, weight = 1): Promise<void> {
    return this.#call("feedback", [text, agent, weight]);
  }

  undoFeedback(id: number): Promise<boolean> {
    return this.#call("undoFeedback", [id]);
  }

  ask<T>(call: Call, body: object = {}): Promise<T> {
    return this.#call("ask", [call, body]);
  }

  export(): Promise<Uint8Array> {
    return this.#call("export", []);
  }

  async import(bytes: Uint8Array): Promise<void> {
    const copy = new Uint8Array(bytes);
    await this.#call("import", [transfer(copy, [copy.buffer])]);
  }

  stats(): Promise<Stats> {
    return this.#call("stats", []);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const life = this.#life;
    this.#closed = true;
    this.#life = undefined;
    const alive = await life?.catch(() => undefined);
    await alive?.ask("close", []).catch(() => undefined);
    alive?.end();
  }

  /** The worker, started if there is none. */
  #alive(onProgress?: (progress: LoadProgress) => void): Promise<Life> {
    if (this.#closed) {
      throw new RuvllmError("this router is closed", { name: "ClosedError", field: "close", fix: "load a new one" });
    }
    if (!this.#life) {
      const starting = this.#start(onProgress);
      this.#life = starting;
      const forget = (): void => {
        if (this.#life === starting) this.#life = undefined;
      };
      starting.then((life) => life.died.then(forget), forget);
    }
    return this.#life;
  }

  async #start(onProgress?: (progress: LoadProgress) => void): Promise<Life> {
    const { snapshot = true } = this.#options;
    const settled = (progress: LoadProgress): void => {
      onProgress?.(progress);
      const last = this.#options.encoder === "static" ? "ready" : "ruvltra";
      if (snapshot && progress.stage === last && progress.loaded === progress.total) this.#keepSnapshot();
    };
    try {
      return await this.#startOnce(snapshot, settled);
    } catch (error) {
      if (!snapshot || (error as Error).name !== "WorkerError") throw error;
      return this.#startOnce(false, settled); // it died: perhaps of the snapshot
    }
  }

  async #startOnce(snapshot: boolean, onProgress: (progress: LoadProgress) => void): Promise<Life> {
    const life = new Life(this.#base, this.#index);
    try {
      await life.start(this.#base, this.#index, { ...this.#options, snapshot }, onProgress);
      for (const agents of this.#added) await life.ask("addAgents", [agents]);
      return life;
    } catch (error) {
      life.end();
      throw error;
    }
  }

  /** For the next visit, when this one has all it needs and the page has nothing better to do. */
  #keepSnapshot(): void {
    const keep = async (): Promise<void> => {
      if (this.#closed) return;
      const helper = new Life(this.#base, this.#index);
      await helper.keepSnapshot(this.#base, this.#index).catch(() => undefined);
      helper.end();
    };
    const soon = globalThis.requestIdleCallback ?? ((work: () => void) => setTimeout(work, 1_000));
    soon(() => void keep());
  }

  async #call<T>(method: Method, args: unknown[]): Promise<T> {
    const life = await this.#alive();
    try {
      return (await life.ask(method, args)) as T;
    } catch (error) {
      if (!(life.dead && repeatable(method, args)) || this.#closed) throw error;
      return (await (await this.#alive()).ask(method, args)) as T;
    }
  }
}

/** One worker from its start to its end. */
class Life {
  readonly #worker: Worker;
  readonly #remote: Remote<RemoteRouter>;
  readonly #name = `ruvllm-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  #die: (why: string) => void = () => undefined;
  /** Resolves with the reason once the worker is gone. */
  readonly died: Promise<string>;
  dead = false;

  constructor(base: URL, index: SiteIndex) {
    this.died = new Promise((resolve) => {
      this.#die = (why) => {
        this.dead = true;
        resolve(why);
      };
    });
    this.#worker = startWorker(new URL(index.worker, base), "ruvllm");
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#worker.terminate();
      this.#die(event.message || "its script could not be loaded");
    });
    this.#remote = wrap<RemoteRouter>(this.#worker);
  }

  async start(
    base: URL,
    index: SiteIndex,
    options: LoadOptions,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<void> {
    const { agents, encoder, state = "persistent", snapshot = true, reviewAfter } = options;
    const told = { base: base.href, index, agents, encoder, state, snapshot, reviewAfter, life: this.#name };
    await this.#answered(this.#remote.start(told, proxy(onProgress)));
    // The worker holds this lock as long as it lives, so it is granted here once it is gone.
    void navigator.locks?.request(this.#name, () => this.#die("it stopped")).catch(() => undefined);
  }

  async keepSnapshot(base: URL, index: SiteIndex): Promise<void> {
    await this.#answered(this.#remote.keepSnapshot(base.href, index));
  }

  /** A method's value, or the error it threw, or that the worker died first. */
  ask(method: Method, args: unknown[]): Promise<unknown> {
    const reply = this.#remote.call(method, args) as Promise<Outcome<unknown>>;
    const refuse = (error: unknown): Outcome<unknown> => ({ error: toRuvllmError(error, method).toJSON() });
    return this.#answered(reply.catch(refuse)); // what cannot be cloned never leaves the page
  }

  async #answered<T>(reply: Promise<Outcome<T>>): Promise<T> {
    const outcome = await Promise.race([reply, this.died]);
    if (typeof outcome === "string") {
      const fix = "ask again: it starts anew with what was kept";
      throw new RuvllmError(`the worker died: ${outcome}`, { name: "WorkerError", field: "worker", fix });
    }
    if ("error" in outcome) throw new RuvllmError(outcome.error.message, outcome.error);
    return outcome.value;
  }

  end(): void {
    this.#remote[releaseProxy]();
    this.#worker.terminate();
    this.#die("it was closed");
  }
}

/** A worker may only come from the page's own origin: for another one, an import of it does. */
export function startWorker(url: URL, name: string): Worker {
  if (url.origin === location.origin) return new Worker(url, { type: "module", name });
  const script = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  const address = URL.createObjectURL(script);
  try {
    return new Worker(address, { type: "module", name });
  } finally {
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
}
