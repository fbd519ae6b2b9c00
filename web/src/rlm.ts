/** Recursive answering with its steps, over any router: one of this page or process, or one at a server. */
import type { DeepSettings, MemoryHit } from "./contract.js";
import type { Abortable, DeepAnswer, DeepEvent, Router } from "./types.js";

/** Limits and habits; the camelCase names of `DeepSettings`. */
export interface RlmConfig {
  maxDepth: number;
  maxSubQueries: number;
  /** Of all prompts and answers of one query together. */
  tokenBudget: number;
  /** Memories or passages looked up for each sub-query. */
  topK: number;
  /** 0 to 1, of an answer that is not written again where `enableReflection` is on. */
  minQuality: number;
  enableReflection: boolean;
  maxReflectionIterations: number;
  enableCache: boolean;
  /** Milliseconds that an answer is given again. */
  cacheTtl: number;
}

/** What is heard of a query, the answer last. */
export type RlmEvent = DeepEvent | { type: "answer"; answer: DeepAnswer };

export interface RlmOptions extends Abortable {
  /** A text to answer from, of any length. */
  context?: string;
}

const DEFAULTS: RlmConfig = {
  maxDepth: 3, maxSubQueries: 5, tokenBudget: 4096, topK: 10, minQuality: 0.7, enableReflection: false,
  maxReflectionIterations: 2, enableCache: true, cacheTtl: 300_000,
};
const ANSWERS = 256; // kept

/** Takes complex queries apart, answers the parts from memory and models, and puts the answers together. */
export class RlmController {
  readonly #router: Router;
  #config: RlmConfig;
  readonly #answers = new Map<string, { at: number; answer: DeepAnswer }>();
  #hits = 0;
  #misses = 0;

  constructor(router: Router, config: Partial<RlmConfig> = {}) {
    this.#router = router;
    this.#config = { ...DEFAULTS, ...config };
  }

  /** The whole answer; `onEvent` hears of the steps as they are done. */
  async query(query: string, given: RlmOptions & { onEvent?: (event: DeepEvent) => void } = {}): Promise<DeepAnswer> {
    const key = JSON.stringify([String(query).trim(), given.context]);
    const { enableCache, cacheTtl } = this.#config;
    const stored = enableCache ? this.#answers.get(key) : undefined;
    if (stored && Date.now() - stored.at < cacheTtl) {
      this.#hits += 1;
      return { ...stored.answer, cached: true };
    }
    this.#misses += 1;
    const answer = await this.#router.queryDeep(query, { ...given, settings: this.#settings() });
    if (enableCache && answer.findings.every(({ missing }) => !missing)) this.#keep(key, answer);
    return answer;
  }

  /** The same as events: plans, the answer to each part as it comes, the text in pieces, the whole at the end. */
  async *queryStream(query: string, given: RlmOptions = {}): AsyncGenerator<RlmEvent, void, undefined> {
    const left = new AbortController();
    const signal = given.signal ? AbortSignal.any([given.signal, left.signal]) : left.signal;
    const heard: RlmEvent[] = [];
    let wake = (): void => undefined;
    let failure: unknown;
    let over = false;
    const hear = (event: RlmEvent): void => {
      heard.push(event);
      wake();
    };
    const end = (error?: unknown): void => {
      failure = error;
      over = true;
      wake();
    };
    void this.query(query, { ...given, signal, onEvent: hear }).then((answer) => (hear({ type: "answer", answer }), end()), end);
    try {
      for (;;) {
        for (let event = heard.shift(); event; event = heard.shift()) yield event;
        if (failure) throw failure;
        if (over) return;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      left.abort(); // whoever leaves the loop waits for nothing more
    }
  }

  /** Remember a text; answers given before are forgotten. */
  async addMemory(text: string, metadata: Record<string, unknown> = {}): Promise<number> {
    this.clearCache();
    const [id = 0] = await this.#router.addMemory([{ text, metadata }]);
    return id;
  }

  searchMemory(query: string, k = this.#config.topK): Promise<MemoryHit[]> {
    return this.#router.searchMemory(query, { k });
  }

  clearCache(): void {
    this.#answers.clear();
  }

  getCacheStats(): { size: number; hits: number; misses: number; hitRate: number } {
    const [hits, misses] = [this.#hits, this.#misses];
    return { size: this.#answers.size, hits, misses, hitRate: hits / Math.max(hits + misses, 1) };
  }

  updateConfig(config: Partial<RlmConfig>): void {
    this.#config = { ...this.#config, ...config };
    this.clearCache();
  }

  getConfig(): RlmConfig {
    return { ...this.#config };
  }

  #settings(): Partial<DeepSettings> {
    const { maxDepth, maxSubQueries, tokenBudget, topK, minQuality, enableReflection, maxReflectionIterations } = this.#config;
    const reflections = enableReflection ? maxReflectionIterations : 0;
    const limits = { max_depth: maxDepth, max_sub_queries: maxSubQueries, token_budget: tokenBudget, top_k: topK };
    return { ...limits, min_quality: minQuality, reflections };
  }

  #keep(key: string, answer: DeepAnswer): void {
    this.#answers.delete(key);
    this.#answers.set(key, { at: Date.now(), answer });
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > ANSWERS && oldest !== undefined) this.#answers.delete(oldest);
  }
}
