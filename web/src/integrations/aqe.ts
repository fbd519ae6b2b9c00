/** Agentic QE's names over an edge server: providers of completions, knowledge of agents, three agents on top. */
import type * as contract from "../contract.js";
import { RuvllmError } from "../errors.js";
import { type HttpOptions, HttpRouter } from "../http.js";

/** An answer -> right or not, 0 to 1, or what is wrong with it, which the next attempt is given. */
export type Validator = (text: string) => boolean | number | string | Promise<boolean | number | string>;

export interface CompleteOptions {
  sessionId?: string;
  maxTokens?: number;
  temperature?: number;
}

export interface Completed {
  text: string;
  model: string;
  /** 0 to 1; null where the model tells none. */
  confidence: number | null;
  /** `latency` in milliseconds, `cost` in US dollars; after a validator how many attempts, and whether it is valid. */
  metadata: { requestId: string; latency: number; cost: number; tier: number; sessionId: string | null; attempts?: number; valid?: boolean };
}

/** Whatever completes prompts. */
export interface LLMProvider {
  complete(prompt: string, options?: CompleteOptions): Promise<Completed>;
  completeWithFeedback(prompt: string, validator: Validator, options?: CompleteOptions): Promise<Completed>;
}

export interface ProviderOptions extends HttpOptions {
  /** Attempts of a checked completion; 2 by default. */
  attempts?: number;
}

/** Completes with the server's small tier, which learns from what validators say. */
export class LocalLLMProvider implements LLMProvider {
  /** The server. */
  readonly router: HttpRouter;
  protected readonly tiers: readonly string[] = ["small"];
  readonly #attempts: number;

  constructor(server: HttpRouter | string | URL, { attempts = 2, ...http }: ProviderOptions = {}) {
    if (!(Number.isInteger(attempts) && attempts >= 1)) {
      throw new RuvllmError(`attempts is ${attempts}`, { name: "InputError", field: "attempts", fix: "give 1 or more" });
    }
    this.router = server instanceof HttpRouter ? server : new HttpRouter(server, http);
    this.#attempts = attempts;
  }

  async complete(prompt: string, options: CompleteOptions = {}): Promise<Completed> {
    return this.ask(prompt, this.tiers[0]!, options);
  }

  /** The first answer that a validator takes, else the last; each verdict is feedback on its answer. */
  async completeWithFeedback(prompt: string, validator: Validator, options: CompleteOptions = {}): Promise<Completed> {
    let request = prompt;
    for (let attempt = 1; ; attempt++) {
      const found = await this.ask(request, this.tiers[Math.min(attempt, this.tiers.length) - 1]!, options);
      const { valid, quality, wrong } = await verdict(validator, found.text);
      await this.router.rate(found.metadata.requestId, 1 + 4 * quality, { task_success: valid });
      if (valid || attempt === this.#attempts) return { ...found, metadata: { ...found.metadata, attempts: attempt, valid } };
      request = `${prompt}\n\nThe last answer was not right: ${wrong}\n\n${found.text}`;
    }
  }

  protected async ask(prompt: string, model: string, { sessionId, maxTokens, temperature }: CompleteOptions): Promise<Completed> {
    const limits = {
      force_model: model,
      ...(sessionId === undefined ? {} : { session_id: sessionId }),
      ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
      ...(temperature === undefined ? {} : { temperature }),
    };
    return completed(await this.router.query(prompt, limits));
  }
}

/** The small tier first, the large one where its answer is unsure or a validator does not take it. */
export class HybridLLMProvider extends LocalLLMProvider {
  protected override readonly tiers = ["small", "large"];
  readonly #threshold: number;

  constructor(server: HttpRouter | string | URL, { threshold = 0.7, ...options }: ProviderOptions & { threshold?: number } = {}) {
    super(server, options);
    this.#threshold = threshold;
  }

  override async complete(prompt: string, options: CompleteOptions = {}): Promise<Completed> {
    const first = await this.ask(prompt, "small", options);
    if (first.confidence === null || first.confidence >= this.#threshold) return first;
    const second = await this.ask(prompt, "large", options);
    return { ...second, metadata: { ...second.metadata, cost: first.metadata.cost + second.metadata.cost } };
  }
}

/** What agents know, each for itself, in the server's memory. */
export class AQEMemoryManager {
  readonly #router: HttpRouter;

  constructor(server: HttpRouter | string | URL, http: HttpOptions = {}) {
    this.#router = server instanceof HttpRouter ? server : new HttpRouter(server, http);
  }

  async storeKnowledge(agentId: string, knowledge: string, metadata: Record<string, unknown> = {}): Promise<number> {
    const [id] = await this.#router.addMemory([{ text: knowledge, collection: `agent:${agentId}`, metadata }]);
    return id!;
  }

  async retrieveKnowledge(agentId: string, query: string, k = 5): Promise<contract.MemoryHit[]> {
    return this.#router.searchMemory(query, { k, collection: `agent:${agentId}` });
  }
}

abstract class QeAgent {
  /** Whose knowledge it uses. */
  abstract readonly id: string;

  constructor(protected readonly provider: LLMProvider, protected readonly memory?: AQEMemoryManager) {}

  protected async ask(about: string, prompt: string, validator: Validator): Promise<Completed> {
    const stored = this.memory ? await this.memory.retrieveKnowledge(this.id, about, 3) : [];
    const before = stored.map((hit) => hit.text.slice(0, 2000)).join("\n\n");
    const found = await this.provider.completeWithFeedback(before ? `${prompt}\n\nWhat was right before:\n${before}` : prompt, validator);
    if (found.metadata.valid) await this.memory?.storeKnowledge(this.id, `${about}\n\n${found.text}`.slice(0, 8000));
    return found;
  }
}

/** Writes tests. */
export class TestGeneratorAgent extends QeAgent {
  readonly id = "test-generator";

  async generate(code: string, framework = "vitest"): Promise<Completed> {
    const names = functionsIn(code);
    const validator = (answer: string) => {
      const written = codeIn(answer);
      if (!/\b(?:def test|it\(|test\(|assert|expect)/.test(written)) return "it holds no test";
      return !names.length || names.some((name) => written.includes(name)) || `it tests none of ${names.slice(0, 5).join(", ")}`;
    };
    const prompt = `Write tests with ${framework} for this code. Answer with the code alone.\n\n\`\`\`\n${code}\n\`\`\``;
    const found = await this.ask(`tests with ${framework} of ${names.slice(0, 8).join(", ") || code.slice(0, 80)}`, prompt, validator);
    return { ...found, text: codeIn(found.text) };
  }
}

/** Says what is not tested, and what to test next. */
export class CoverageAnalyzerAgent extends QeAgent {
  readonly id = "coverage-analyzer";

  async analyze(code: string, missing: number[]): Promise<{ coverage: number; suggestions: string[]; completion: Completed }> {
    const lines = code.split("\n").flatMap((line, i) => (line.trim() ? [i + 1] : []));
    const gone = lines.filter((line) => missing.includes(line));
    const what = `These lines are not tested: ${gone.slice(0, 200).join(", ")}.`;
    const prompt = `${what} Say in a list which tests would run them.\n\n\`\`\`\n${code}\n\`\`\``;
    const completion = await this.ask(what, prompt, (answer) => answer.trim() !== "");
    const suggestions = completion.text.split("\n").map((line) => line.replace(/^\s*(?:[-*•]|\d+[.)])\s*/, "").trim()).filter(Boolean);
    return { coverage: lines.length ? 1 - gone.length / lines.length : 1, suggestions, completion };
  }
}

/** Says where defects are likely. */
export class DefectPredictorAgent extends QeAgent {
  readonly id = "defect-predictor";

  async predict(code: string): Promise<{ risk: number | null; reasons: string[]; completion: Completed }> {
    const prompt = `How likely has this code a defect? Answer with JSON alone: {"risk": 0 to 1, "reasons": ["…"]}.\n\n\`\`\`\n${code}\n\`\`\``;
    const about = `defects in ${functionsIn(code).slice(0, 8).join(", ") || code.slice(0, 80)}`;
    const completion = await this.ask(about, prompt, (answer) => riskIn(answer) !== null || "it is no such JSON");
    return { ...(riskIn(completion.text) ?? { risk: null, reasons: [] }), completion };
  }
}

function completed(response: contract.Response): Completed {
  const { request_id, latency, cost, tier, session_id } = response;
  const metadata = { requestId: request_id, latency: (latency["total"] ?? 0) / 1000, cost, tier: Number(tier), sessionId: session_id };
  return { text: response.text, model: response.routing.model, confidence: response.confidence, metadata };
}

async function verdict(validator: Validator, text: string): Promise<{ valid: boolean; quality: number; wrong: string }> {
  let said: boolean | number | string;
  try {
    said = await validator(text);
  } catch (error) {
    said = String(error).slice(0, 500);
  }
  if (typeof said === "string") return { valid: false, quality: 0, wrong: said };
  const quality = Math.min(Math.max(Number(said) || 0, 0), 1);
  return { valid: quality >= 0.5, quality, wrong: "it did not pass the check" };
}

function functionsIn(code: string): string[] {
  return [...code.matchAll(/\b(?:function|def|fn|func)\s+(\w+)|\bconst\s+(\w+)\s*=\s*(?:async\s*)?\(/g)].map((match) => match[1] ?? match[2]!);
}

function codeIn(answer: string): string {
  return (/```[\w+-]*[ \t]*\n([\s\S]*?)(?:\n```|$)/.exec(answer)?.[1] ?? answer).trim();
}

function riskIn(answer: string): { risk: number; reasons: string[] } | null {
  try {
    const written = codeIn(answer);
    const found = JSON.parse(written.slice(written.indexOf("{"), written.lastIndexOf("}") + 1)) as { risk?: unknown; reasons?: unknown };
    const risk = Number(found.risk);
    const reasons = Array.isArray(found.reasons) ? found.reasons.map(String) : [];
    return typeof found.risk === "number" && risk >= 0 && risk <= 1 ? { risk, reasons } : null;
  } catch {
    return null;
  }
}
