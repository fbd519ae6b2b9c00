/** The same class in Node: in this process, from the same built folder on disk. */
import { readFile } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Engine } from "./engine.js";
import { RuvllmError } from "./errors.js";
import { type Call, type LocalRouter, Runtime } from "./runtime.js";
import { Ledger, parseIndex, type Site, type SiteIndex } from "./site.js";
import type {
  Added, Agent, AgentFile, Decision, Embeddings, LoadOptions, Stats, Team,
} from "./types.js";

export { RuvllmError } from "./errors.js";
export type * from "./runtime.js";
export type * from "./types.js";

/** The built folder on a disk. */
class DiskSite implements Site {
  readonly index: SiteIndex;
  readonly #base: URL;
  readonly #ledger: Ledger;

  constructor(base: URL, index: SiteIndex, ledger: Ledger) {
    this.#base = base;
    this.index = index;
    this.#ledger = ledger;
  }

  module(file: string): string {
    return new URL(file, this.#base).href;
  }

  place(file: string): string {
    return fileURLToPath(new URL(file, this.#base));
  }

  async read(file: string): Promise<Uint8Array<ArrayBuffer>> {
    const data = await bytesOf(new URL(file, this.#base));
    this.#ledger.add(file, data.length);
    return data;
  }
}

/** A plain Uint8Array: Pyodide refuses Node's Buffer. */
async function bytesOf(file: URL): Promise<Uint8Array<ArrayBuffer>> {
  const fix = "set `baseURL` to the folder that `make web` built";
  try {
    return new Uint8Array(await readFile(file));
  } catch (cause) {
    const path = fileURLToPath(file);
    throw new RuvllmError(`${path} cannot be read`, { name: "ArtifactError", field: path, fix, cause });
  }
}

/** Routes in this process. What is learnt stays in memory; `export` and `import` carry it. */
export class RuvLLM extends Runtime implements LocalRouter {
  readonly #engine: Engine;

  private constructor(engine: Engine) {
    super();
    this.#engine = engine;
  }

  /**
   * Start it. Resolves when it routes by the static table; MiniLM goes on loading behind it.
   *
   * @param options `baseURL` is a file URL or a path; `state` has no effect here
   */
  static async load(options: LoadOptions = {}): Promise<RuvLLM> {
    const base = folder(options.baseURL ?? new URL(/* @vite-ignore */ "./", import.meta.url));
    const ledger = new Ledger(options.onProgress);
    const file = new URL("ruvllm.json", base);
    const index = parseIndex(new TextDecoder().decode(await bytesOf(file)), fileURLToPath(file));
    const site = new DiskSite(base, index, ledger);
    const ortBinary = (): Promise<Uint8Array<ArrayBuffer>> => site.read(index.ort.wasm);
    return new RuvLLM(await Engine.boot({ site, ledger, ortBinary }, options));
  }

  route(text: string, options?: { top?: number }): Promise<Decision> {
    return this.#engine.route(text, options);
  }

  routeComplex(text: string): Promise<Team> {
    return this.#engine.routeComplex(text);
  }

  embed(texts: string[]): Promise<Embeddings> {
    return this.#engine.embed(texts);
  }

  addAgents(agents: Agent[] | AgentFile[]): Promise<Added> {
    return this.#engine.addAgents(agents);
  }

  resetAgents(): Promise<Added> {
    return this.#engine.resetAgents();
  }

  agents(): Promise<Agent[]> {
    return this.#engine.agents();
  }

  feedback(text: string, agent: string, weight?: number): Promise<void> {
    return this.#engine.feedback(text, agent, weight);
  }

  undoFeedback(id: number): Promise<boolean> {
    return this.#engine.undoFeedback(id);
  }

  ask<T>(call: Call, body?: object): Promise<T> {
    return this.#engine.ask(call, body);
  }

  export(): Promise<Uint8Array> {
    return this.#engine.export();
  }

  import(bytes: Uint8Array): Promise<void> {
    return this.#engine.import(new Uint8Array(bytes));
  }

  stats(): Promise<Stats> {
    return this.#engine.stats();
  }

  close(): Promise<void> {
    return this.#engine.close();
  }
}

/** A folder's file URL, from one or from a path. */
function folder(base: string | URL): URL {
  const url = base instanceof URL || base.startsWith("file:") ? new URL(base) : pathToFileURL(base);
  return url.pathname.endsWith("/") ? url : new URL(`${url.href}/`);
}
