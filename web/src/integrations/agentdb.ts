/** AgentDB's names over an edge server: which search, which LLM, embeddings. */
import type * as contract from "../contract.js";
import type { MemoryQuery } from "../workbench.js";
import { RuvllmError } from "../errors.js";
import { type HttpOptions, HttpRouter } from "../http.js";

export type Search<T> = (query: string, k: number) => Promise<T>;

const EXPLORE = 0.1; // share of searches that try another one than the soonest
const WEIGHT = 0.2; // of the newest latency

/** Which of several searches answers soonest, learnt from how long they took. */
export class IntelligentQueryRouter {
  readonly #latency = new Map<string, number | null>();
  readonly #random: () => number;

  /** @param random 0 to 1; for tests */
  constructor(backends: string[], random: () => number = Math.random) {
    if (!backends.length || new Set(backends).size < backends.length) {
      throw new RuvllmError("backends are none, or two have one name", { name: "InputError", field: "backends", fix: "name each once" });
    }
    for (const name of backends) this.#latency.set(name, null);
    this.#random = random;
  }

  /** The one to ask: each once, then the soonest, and now and then another. */
  route(): string {
    const names = [...this.#latency.keys()];
    const fresh = names.find((name) => this.#latency.get(name) === null);
    if (fresh !== undefined) return fresh;
    if (this.#random() < EXPLORE) return names[Math.floor(this.#random() * names.length)]!;
    return names.reduce((best, name) => (this.#latency.get(name)! < this.#latency.get(best)! ? name : best));
  }

  /** How many milliseconds it took. */
  recordLatency(backend: string, latency: number): void {
    const before = this.#latency.get(backend);
    if (before === undefined || !(latency >= 0)) {
      const fix = `use ${[...this.#latency.keys()].join(", ")}, and milliseconds`;
      throw new RuvllmError(`no backend ${backend} that took ${latency} ms`, { name: "InputError", field: "backend", fix });
    }
    this.#latency.set(backend, before === null ? latency : before + WEIGHT * (latency - before));
  }
}

/** Searches the server's memory, or by whichever of several searches is the soonest. */
export class LLMRouter<T = contract.MemoryHit[]> {
  readonly #server: HttpRouter;
  readonly #backends: Record<string, Search<T>> | undefined;
  /** Chooses among `backends`; undefined without them. */
  readonly router: IntelligentQueryRouter | undefined;

  constructor(server: HttpRouter | string | URL, { backends, ...http }: HttpOptions & { backends?: Record<string, Search<T>> } = {}) {
    this.#server = server instanceof HttpRouter ? server : new HttpRouter(server, http);
    this.#backends = backends;
    this.router = backends && new IntelligentQueryRouter(Object.keys(backends));
  }

  /** What is like a text, best first; `search` is of the server's memory: collection, filter, hops. */
  async intelligentSearch(query: string, k = 10, search: Omit<MemoryQuery, "k"> = {}): Promise<T> {
    if (!this.#backends || !this.router) return (await this.#server.searchMemory(query, { k, ...search })) as T;
    const name = this.router.route();
    const began = performance.now();
    const found = await this.#backends[name]!(query, k);
    this.router.recordLatency(name, performance.now() - began);
    return found;
  }
}

/** Embeddings of the server's encoder. */
export class AdaptiveEmbeddingService {
  readonly #server: HttpRouter;

  constructor(server: HttpRouter | string | URL, http: HttpOptions = {}) {
    this.#server = server instanceof HttpRouter ? server : new HttpRouter(server, http);
  }

  async generate(text: string): Promise<Float32Array> {
    return (await this.#server.embed([text])).data;
  }
}

/** Asks the LLM that the server chooses, within limits, and tells it what came of that. */
export class LLMOrchestrator {
  readonly #server: HttpRouter;

  constructor(server: HttpRouter | string | URL, http: HttpOptions = {}) {
    this.#server = server instanceof HttpRouter ? server : new HttpRouter(server, http);
  }

  /** The answer, with who gave it and why. */
  async complete(prompt: string, limits: { maxCost?: number; maxLatency?: number } = {}): Promise<contract.Response> {
    return this.#server.query(prompt, {
      ...(limits.maxCost === undefined ? {} : { max_cost: limits.maxCost }),
      ...(limits.maxLatency === undefined ? {} : { max_latency_ms: limits.maxLatency }),
    });
  }

  /** Whether an answer was good, or how good, 0 to 1: later choices learn it. */
  async recordOutcome(response: contract.Response, quality: number | boolean): Promise<void> {
    const value = Math.min(Math.max(Number(quality), 0), 1);
    await this.#server.rate(response.request_id, 1 + 4 * value, { task_success: value >= 0.5 });
  }
}
