/** The same interface over HTTP: an edge server answers, with the same JSON as the core. */
import type * as contract from "./contract.js";
import { closedError, RuvllmError } from "./errors.js";
import { json, options as plainOptions, stateBytes } from "./plain.js";
import type {
  Abortable, Added, Agent, AgentFile, Answers, Decision, DeepAnswer, DeepEvent, DeepOptions, Embeddings, Question, RightAnswer,
  RouteOptions,
  Router, Stats, Team,
} from "./types.js";
import type {
  Applied, BackendOptions, BackendProfile, BackendStats, Choice, EdgeKind, ForgetPolicy, KeptFeedback, Limits, Memory, MemoryQuery,
  MemoryStats, NewMemory, Outcome, Pattern, Plan, Reliability, Said,
} from "./workbench.js";

export interface HttpOptions {
  /** Sent with each request, e.g. `authorization`. */
  headers?: Record<string, string>;
  /** Milliseconds before a request is given up; 30,000 by default. */
  timeout?: number;
}

/** What else a server's deep queries may be held to. */
export interface DeepLimits {
  max_tokens?: number;
  temperature?: number;
  max_latency_ms?: number;
}

type Json = Record<string, unknown>;

const POLL = 500; // milliseconds between two looks at it

/** A `Router` at an edge server: `new HttpRouter("https://edge.example")`. */
export class HttpRouter implements Router {
  readonly #base: string;
  readonly #headers: Record<string, string>;
  readonly #timeout: number;
  readonly #closing = new AbortController();

  constructor(endpoint: string | URL, given?: HttpOptions) {
    const { headers = {}, timeout = 30_000 } = plainOptions(given);
    this.#base = checkedUrl(endpoint);
    this.#headers = headers;
    this.#timeout = timeout;
  }

  async route(text: string, given?: RouteOptions): Promise<Decision> {
    const { signal, ...options } = plainOptions(given);
    return this.#ask("POST route", { text, ...options }, isDecision, signal);
  }

  async routeComplex(text: string): Promise<Team> {
    return this.#ask("POST route/complex", { text }, (data): data is Team => Array.isArray((data as Json)["members"]));
  }

  async queryDeep(query: string, given?: DeepOptions & DeepLimits): Promise<DeepAnswer> {
    const { onEvent, signal, ...limits } = plainOptions(given);
    const body = json({ query, deep: true, stream: true, ...limits });
    const headers = { "content-type": "application/json", accept: "text/event-stream" };
    return this.#send("POST", "query", { headers, body, ...(signal && { signal }) }, async (response, url, alive) => {
      for await (const { name, data } of eventsOf(response, alive)) {
        if (name === "error") throw refused(response, url, data);
        if (name === "answer" && has<DeepAnswer>({ text: "string", findings: "array" })(data)) return data;
        onEvent?.({ type: name, ...(data as object) } as DeepEvent);
      }
      throw strange(url);
    });
  }

  /** The answer to a question; `session_id` of `newSession`, `force_model`, `max_cost` and the like are taken too. */
  async query(
    query: string, given?: Omit<contract.QueryBody, "query" | "deep" | "stream" | "context" | "settings"> & Abortable,
  ): Promise<contract.Response> {
    const { signal, ...limits } = plainOptions(given);
    return this.#ask("POST query", { query, ...limits }, has<contract.Response>({ request_id: "string", text: "string" }), signal);
  }

  /** How an answer was, 1 (bad) to 5 (good); null where only more is said. */
  async rate(request_id: string, rating: number | null, more: Said = {}): Promise<Applied> {
    const said = { request_id, rating, ...more } as contract.FeedbackBody;
    return (await this.#ask("POST feedback", said, anything)).request as Applied;
  }

  /** Begins a conversation, after what was said before if that is given; its id, which `query` takes as `session_id`. */
  async newSession(metadata: Record<string, unknown> = {}, history: contract.Turn[] = []): Promise<string> {
    return (await this.#ask("POST sessions", { metadata, history }, has<contract.SessionMade>({ session_id: "string" }))).session_id;
  }

  async session(id: string): Promise<contract.Session> {
    return this.#json("GET", `sessions/${encodeURIComponent(id)}`, undefined, has<contract.Session>({ history: "array" }));
  }

  async endSession(id: string): Promise<boolean> {
    return this.#ends(`sessions/${encodeURIComponent(id)}`);
  }

  async addMemory(memories: NewMemory[], options: { chain?: boolean } = {}): Promise<number[]> {
    return (await this.#ask("POST memory", { memories, ...options }, has<contract.Memories>({ ids: "array" }))).ids;
  }

  async memories(limit = 200): Promise<Memory[]> {
    return (await this.#json("GET", `memory?limit=${limit}`, undefined, has<{ memories: Memory[] }>({ memories: "array" }))).memories;
  }

  async linkMemory(source: number, target: number, kind: EdgeKind, weight = 1): Promise<void> {
    await this.#ask("POST memory/edges", { source, target, kind, weight }, isNothing);
  }

  memoryStats(): Promise<MemoryStats> {
    return this.#ask("GET memory/stats", undefined, has({ tiers: "object", indexes: "object" }));
  }

  decompose(query: string): Promise<Plan> {
    return this.#json("POST", "query/plan", { query }, has<Plan>({ parts: "array", split: "boolean" }));
  }

  lint(): Promise<contract.LintFinding[]> {
    return this.#ask("GET agents/lint", undefined, isRows);
  }

  async learnPatterns(): Promise<Pattern[]> {
    return (await this.#ask("POST patterns", undefined, has<contract.Patterns>({ patterns: "array" }))).patterns;
  }

  feedbackList(limit = 50): Promise<{ feedback: KeptFeedback[]; total: number }> {
    return this.#json("GET", `feedback?limit=${limit}`, undefined, has<contract.FeedbackEntries>({ feedback: "array", total: "number" }));
  }

  async undoFeedback(id: number): Promise<boolean> {
    return this.#ends(`feedback/${id}`);
  }

  reliability(): Promise<Reliability> {
    return this.#ask("GET reliability", undefined, has({ decisions: "number", bins: "array" }));
  }

  /** Do background work that is due, now; the server does it by itself as well. */
  runJobs(budget = 0.05): Promise<contract.JobRun[]> {
    return this.#ask("POST jobs", { budget }, isRows);
  }

  setBackends(backends: BackendProfile[], options: BackendOptions = {}): Promise<BackendStats> {
    return this.#ask("PUT backends", { backends, ...options }, has<BackendStats & Json>({ profiles: "array" }));
  }

  select(prompt: string, limits: Limits = {}): Promise<Choice> {
    return this.#ask("POST backends/select", { prompt, ...limits }, has({ choice_id: "string", backend: "string" }));
  }

  recordOutcome(choice_id: string, outcome: Outcome): Promise<BackendStats> {
    return this.#ask("POST backends/outcomes", { choice_id, ...outcome }, has<BackendStats & Json>({ profiles: "array" }));
  }

  backendStats(): Promise<BackendStats> {
    return this.#ask("GET backends", undefined, has<BackendStats & Json>({ profiles: "array" }));
  }

  async searchMemory(query: string, options: MemoryQuery = {}): Promise<contract.MemoryHit[]> {
    const found = this.#ask("POST memory/search", { query, ...options } as contract.MemorySearch, has<contract.MemoryHits>({ memories: "array" }));
    return (await found).memories;
  }

  async memoryTimeline(id: number): Promise<contract.MemoryRow[]> {
    return (await this.#json("GET", `memory/${id}/timeline`, undefined, has<contract.Timeline>({ memories: "array" }))).memories;
  }

  async reopenMemory(ids: number[]): Promise<number> {
    const reopened = has<contract.Reopened>({ reopened: "boolean" });
    const each = ids.map((id) => this.#json("POST", `memory/${id}/reopen`, {}, reopened));
    return (await Promise.all(each)).filter((one) => one.reopened).length;
  }

  async forgetMemory(what: number[] | ForgetPolicy): Promise<number> {
    const body = (Array.isArray(what) ? { ids: what } : what) as contract.ForgetBody;
    return (await this.#ask("POST memory/forget", body, has<contract.Forgotten>({ forgotten: "number" }))).forgotten;
  }

  async memoryGraph(ids: number[], hops = 1): Promise<contract.MemoryGraph> {
    return this.#json("GET", `memory/graph?ids=${ids.join(",")}&hops=${hops}`, undefined, has<contract.MemoryGraph>({ nodes: "array", edges: "array" }));
  }

  async bindMemories(members: number[], options: { kind?: EdgeKind; weight?: number; metadata?: object } = {}): Promise<number> {
    const body = { members, ...options } as contract.HyperedgeBody;
    return (await this.#ask("POST memory/hyperedges", body, has<contract.HyperedgeMade>({ id: "number" }))).id;
  }

  async unbindMemories(id: number): Promise<boolean> {
    return this.#ends(`memory/hyperedges/${id}`);
  }

  async patterns(limit = 20): Promise<contract.PatternRow[]> {
    return (await this.#json("GET", `patterns?limit=${limit}`, undefined, has<contract.Patterns>({ patterns: "array" }))).patterns;
  }

  /** Deletes; whether there was such. */
  async #ends(path: string): Promise<boolean> {
    try {
      await this.#json("DELETE", path, undefined, isNothing);
      return true;
    } catch (error) {
      if (error instanceof RuvllmError && error.field === "id") return false;
      throw error;
    }
  }

  /** The tools that a task needs, of `tools` or of the server's catalog. */
  async searchTools(search: contract.ToolsBody): Promise<contract.ToolsFound> {
    return this.#ask("POST tools/search", search, (data): data is contract.ToolsFound => Array.isArray((data as Json)["hits"]));
  }

  async embed(texts: string[]): Promise<Embeddings> {
    json({ texts });
    const { data } = await this.#json("POST", "embeddings", { input: texts }, isEmbeddings).catch(asTexts);
    const rows = [...data].sort((a, b) => a.index - b.index).map((row) => row.embedding);
    const dim = rows[0]?.length ?? 0;
    const out = new Float32Array(rows.length * dim);
    rows.forEach((row, i) => out.set(row, i * dim));
    return { dim, data: out };
  }

  async addAgents(agents: Agent[] | AgentFile[]): Promise<Added> {
    if (!Array.isArray(agents)) {
      throw new RuvllmError("agents is no list", { name: "InputError", field: "agents", fix: "pass agents, or files" });
    }
    const files = agents.some((agent) => "text" in Object(agent));
    return this.#fitted(await this.#ask("PUT agents", files ? { files: agents as AgentFile[] } : { agents: agents as Json[] }, isAdded));
  }

  /** Forgets all agents that were added to the server's, by whomever. */
  async resetAgents(): Promise<Added> {
    return this.#fitted(await this.#ask("DELETE agents", undefined, isAdded));
  }

  /** Many agents are fitted behind the server's answer; until then tasks are routed among those before. */
  async #fitted(added: contract.AgentsChanged): Promise<Added> {
    let { fitting, ...rest } = added;
    while (fitting) {
      if (fitting.problem) {
        const fix = "see the server's log, or add other agents";
        throw new RuvllmError(fitting.problem, { name: "InputError", field: "agents", fix });
      }
      await new Promise((resolve) => setTimeout(resolve, POLL));
      fitting = (await this.#ask("GET agents", undefined, isAgents)).fitting;
    }
    return rest;
  }

  async agents(): Promise<Agent[]> {
    return (await this.#ask("GET agents", undefined, isAgents)).agents;
  }

  async feedback(text: string, agent: string, weight = 1): Promise<void> {
    await this.#ask("POST feedback", { text, agent, weight }, anything);
  }

  async decide(state: unknown, questions: Record<string, Question>): Promise<Answers> {
    return this.#json("POST", "systemone", { model: "auto", state, questions }, has<Answers>({ id: "string", answers: "object" }));
  }

  async feedbackDecision(id: string, answer: RightAnswer | Record<string, RightAnswer>): Promise<Record<string, number>> {
    return (await this.#json("POST", "feedback", { request_id: id, answer }, has<{ examples: Record<string, number> }>({ examples: "object" }))).examples;
  }

  /** The server as the place where others learn together: updates as bytes, the model of all of them, how it stands. */
  readonly learn = {
    push: (update: Uint8Array): Promise<contract.Accepted> => {
      const init = { body: stateBytes(update), headers: { "content-type": "application/octet-stream" } };
      return this.#send("POST", "federated/updates", init, async (response) => (await response.json()) as contract.Accepted);
    },
    pull: async (): Promise<Uint8Array> =>
      new Uint8Array(await this.#send("GET", "federated/model", {}, (response) => response.arrayBuffer())),
    stats: (): Promise<contract.FederatedStats> => this.#ask("GET federated", undefined, has<contract.FederatedStats>({ updates: "number" })),
  };

  async stats(): Promise<Stats> {
    return { ...(await this.#ask("GET stats", undefined, isStats)), endpoint: this.#base };
  }

  /** The server's whole state, of all its users; it has to allow that (RUVLLM_MAX_STATE). */
  async export(): Promise<Uint8Array> {
    return new Uint8Array(await this.#send("GET", "state", {}, (response) => response.arrayBuffer()));
  }

  /** Replaces the server's whole state, of all its users; it has to allow that (RUVLLM_MAX_STATE). */
  async import(bytes: Uint8Array): Promise<void> {
    const init = { body: stateBytes(bytes), headers: { "content-type": "application/octet-stream" } };
    await this.#send("PUT", "state", init, async () => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  dispose(): Promise<void> {
    return this.close();
  }

  async close(): Promise<void> {
    this.#closing.abort(closedError("router"));
  }

  /** One of the server's calls; `is` looks whether its answer can be one, or a narrower one. */
  #ask<C extends keyof contract.Calls, T extends contract.Calls[C]["answer"]>(
    call: C, body: contract.Calls[C]["body"], is: (data: unknown) => data is T, signal?: AbortSignal,
  ): Promise<T> {
    const [method = "", path = ""] = call.split(" ");
    return this.#json(method, path, body, is, signal);
  }

  async #json<T>(
    method: string, path: string, body: unknown, is: (data: unknown) => data is T, signal?: AbortSignal,
  ): Promise<T> {
    const init: RequestInit = signal ? { signal } : {};
    if (body !== undefined) Object.assign(init, { headers: { "content-type": "application/json" }, body: json(body as object) });
    return this.#send(method, path, init, async (response) => {
      const data = parse(await response.text());
      if (!is(data)) throw strange(response.url);
      return data;
    });
  }

  /** One request, with a time limit that holds until its answer is read, or from one piece of it to the next. */
  async #send<T>(
    method: string, path: string, init: RequestInit, read: (response: Response, url: string, alive: () => void) => Promise<T>,
  ): Promise<T> {
    const url = `${this.#base}v1/${path}`;
    const abort = new AbortController();
    const enders = [this.#closing.signal, init.signal].filter((one) => one instanceof AbortSignal);
    const stop = () => abort.abort(enders.find((one) => one.aborted)?.reason);
    const late = () => abort.abort(tooSlow(url, this.#timeout));
    let timer = setTimeout(late, this.#timeout);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(late, this.#timeout);
    };
    for (const one of enders) one.addEventListener("abort", stop);
    if (enders.some((one) => one.aborted)) stop();
    try {
      const headers = { accept: "application/json", ...(init.headers as Record<string, string>), ...this.#headers };
      const response = await fetch(url, { ...init, method, headers, signal: abort.signal });
      if (!response.ok) throw refused(response, url, parse(await response.text()));
      return await read(response, url, alive);
    } catch (error) {
      if (error instanceof RuvllmError) throw error;
      if (abort.signal.aborted) throw abort.signal.reason;
      throw unreachable(url, error);
    } finally {
      clearTimeout(timer);
      for (const one of enders) one.removeEventListener("abort", stop);
    }
  }
}

function checkedUrl(endpoint: string | URL): string {
  const base = typeof document === "undefined" ? undefined : document.baseURI;
  let url: URL;
  try {
    url = new URL(endpoint, base);
  } catch {
    throw wrongUrl(String(endpoint));
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") throw wrongUrl(String(endpoint));
  url.search = url.hash = "";
  const plain = url.href.replace(/\/v1\/?$/, "/");
  return plain.endsWith("/") ? plain : `${plain}/`;
}

/** The server's word for texts is OpenAI's. */
function asTexts(error: unknown): never {
  if (!(error instanceof RuvllmError) || !error.field.startsWith("input")) throw error;
  const { name, message, fix } = error;
  throw new RuvllmError(message, { name, field: error.field.replace("input", "texts"), fix });
}

/** The server-sent events of a response as they come. */
async function* eventsOf(response: Response, alive: () => void): AsyncGenerator<{ name: string; data: unknown }> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { value = "", done } = (await reader?.read()) ?? { done: true };
      alive();
      const whole = (waiting + value).split("\n\n");
      waiting = whole.pop() ?? "";
      for (const event of whole) {
        const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? [];
        if (name && data) yield { name, data: parse(data) };
      }
      if (done) return;
    }
  } finally {
    await reader?.cancel().catch(() => undefined);
  }
}

type Kind = "string" | "number" | "boolean" | "array" | "object";

/** Whether an answer has fields of these kinds, and so can be one of its type. */
const has = <T>(fields: Record<string, Kind>) => (data: unknown): data is T =>
  Object.entries(fields).every(([name, kind]) => kindOf(Object(data)[name]) === kind);

function kindOf(value: unknown): string {
  return Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
}

function parse(text: string): unknown {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isNothing(data: unknown): data is null {
  return data === null;
}

function isRows<T>(data: unknown): data is T[] {
  return Array.isArray(data);
}

function anything(data: unknown): data is contract.Learnt {
  return data !== undefined;
}

function isDecision(data: unknown): data is Decision {
  const row = data as Partial<Decision> | null;
  return typeof row?.agent === "string" && typeof row.confidence === "number" && Array.isArray(row.alternatives);
}

function isStats(data: unknown): data is contract.Stats {
  const row = data as Partial<contract.Stats> | null;
  return typeof row?.agents === "number" && typeof row.encoder === "string";
}

function isAdded(data: unknown): data is contract.AgentsChanged {
  const row = data as Partial<contract.AgentsChanged> | null;
  return typeof row?.agents === "number" && Array.isArray(row.problems);
}

function isAgents(data: unknown): data is contract.Agents {
  const rows = (data as Json | null)?.["agents"];
  return Array.isArray(rows) && rows.every((row) => typeof (row as Json | null)?.["name"] === "string");
}

function isEmbeddings(data: unknown): data is { data: { index: number; embedding: number[] }[] } {
  const rows = (data as Json | null)?.["data"];
  return Array.isArray(rows) && rows.every((row) => Array.isArray((row as Json | null)?.["embedding"]));
}

/** The server's own words, whether as {error: {message, field, fix}} or flat. */
function refused(response: Response, url: string, data: unknown): RuvllmError {
  const held = (data as Json | null | undefined)?.["error"] ?? data;
  const row = (typeof held === "object" && held !== null ? held : { message: held }) as Json;
  const word = (key: string) => (typeof row[key] === "string" ? (row[key] as string).slice(0, 2000) : "");
  return new RuvllmError(word("message") || `${url} answered ${response.status} ${response.statusText}`.trim(), {
    name: word("name") || "RuvllmError",
    field: word("field") || word("param") || "endpoint",
    fix: word("fix"),
  });
}

function wrongUrl(endpoint: string): RuvllmError {
  return new RuvllmError(`${endpoint} is no http address`, { field: "endpoint", fix: 'use "local" or https://…' });
}

function tooSlow(url: string, timeout: number): RuvllmError {
  return new RuvllmError(`${url} gave no answer in ${timeout} ms`, { field: "endpoint", fix: "try again" });
}

function strange(url: string): RuvllmError {
  return new RuvllmError(`${url} answered something else`, { field: "endpoint", fix: "point it at a ruvllm edge server" });
}

function unreachable(url: string, cause: unknown): RuvllmError {
  const fix = "check the address, the network and the server's CORS headers";
  return new RuvllmError(`${url} cannot be reached`, { field: "endpoint", fix, cause });
}
