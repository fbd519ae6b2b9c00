/** The same interface over HTTP: an edge server answers, with the same JSON as the core. */
import { RuvllmError } from "./errors.js";
import type { Added, Agent, AgentFile, Decision, Embeddings, Router, Stats, Team } from "./types.js";

export interface HttpOptions {
  /** Sent with each request, e.g. `authorization`. */
  headers?: Record<string, string>;
  /** Milliseconds before a request is given up; 30,000 by default. */
  timeout?: number;
}

type Json = Record<string, unknown>;

/** A `Router` at an edge server: `new HttpRouter("https://edge.example")`. */
export class HttpRouter implements Router {
  readonly #base: string;
  readonly #headers: Record<string, string>;
  readonly #timeout: number;
  readonly #closing = new AbortController();

  constructor(endpoint: string | URL, options: HttpOptions = {}) {
    this.#base = checkedUrl(endpoint);
    this.#headers = options.headers ?? {};
    this.#timeout = options.timeout ?? 30_000;
  }

  route(text: string, options: { top?: number } = {}): Promise<Decision> {
    return this.#ask("POST", "route", { text, ...options }, isDecision);
  }

  routeComplex(text: string): Promise<Team> {
    return this.#ask("POST", "route/complex", { text }, (data): data is Team => Array.isArray((data as Json)["members"]));
  }

  async embed(texts: string[]): Promise<Embeddings> {
    const { data } = await this.#ask("POST", "embeddings", { input: texts }, isEmbeddings);
    const rows = [...data].sort((a, b) => a.index - b.index).map((row) => row.embedding);
    const dim = rows[0]?.length ?? 0;
    const out = new Float32Array(rows.length * dim);
    rows.forEach((row, i) => out.set(row, i * dim));
    return { dim, data: out };
  }

  addAgents(agents: Agent[] | AgentFile[]): Promise<Added> {
    const files = agents.length > 0 && agents.every((agent) => "text" in agent && "path" in agent);
    return this.#ask("PUT", "agents", files ? { files: agents } : { agents }, isAdded);
  }

  resetAgents(): Promise<Added> {
    const fix = "change the agents on the server";
    return Promise.reject(new RuvllmError("a server's agents cannot be reset from a page", { field: "endpoint", fix }));
  }

  async agents(): Promise<Agent[]> {
    const data = await this.#ask("GET", "agents", undefined, isAgents);
    return Array.isArray(data) ? data : data.agents;
  }

  async feedback(text: string, agent: string, weight = 1): Promise<void> {
    await this.#ask("POST", "feedback", { text, agent, weight }, anything);
  }

  async stats(): Promise<Stats> {
    const agents = await this.agents();
    return { agents: agents.length, encoder: "server", endpoint: this.#base };
  }

  export(): Promise<Uint8Array> {
    return Promise.reject(serverKeeps("exported"));
  }

  import(): Promise<void> {
    return Promise.reject(serverKeeps("replaced"));
  }

  async close(): Promise<void> {
    this.#closing.abort(new RuvllmError("the router was closed", { field: "endpoint", fix: "make a new one" }));
  }

  async #ask<T>(method: string, path: string, body: unknown, is: (data: unknown) => data is T): Promise<T> {
    const url = `${this.#base}v1/${path}`;
    const abort = new AbortController();
    const stop = () => abort.abort(this.#closing.signal.reason);
    const timer = setTimeout(() => abort.abort(tooSlow(url, this.#timeout)), this.#timeout);
    this.#closing.signal.addEventListener("abort", stop);
    if (this.#closing.signal.aborted) stop();
    try {
      const headers: Record<string, string> = { accept: "application/json", ...this.#headers };
      const init: RequestInit = { method, headers, signal: abort.signal };
      if (body !== undefined) {
        headers["content-type"] = "application/json";
        init.body = JSON.stringify(body);
      }
      const response = await fetch(url, init);
      const text = await response.text();
      const data = parse(text);
      if (!response.ok) throw refused(response, url, data);
      if (!is(data)) throw strange(url);
      return data;
    } catch (error) {
      if (error instanceof RuvllmError) throw error;
      if (abort.signal.aborted && abort.signal.reason instanceof RuvllmError) throw abort.signal.reason;
      throw unreachable(url, error);
    } finally {
      clearTimeout(timer);
      this.#closing.signal.removeEventListener("abort", stop);
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

function parse(text: string): unknown {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function anything(data: unknown): data is unknown {
  return data !== undefined;
}

function isDecision(data: unknown): data is Decision {
  const row = data as Partial<Decision> | null;
  return typeof row?.agent === "string" && typeof row.confidence === "number" && Array.isArray(row.alternatives);
}

function isAdded(data: unknown): data is Added {
  const row = data as Partial<Added> | null;
  return typeof row?.agents === "number" && Array.isArray(row.problems);
}

function isAgents(data: unknown): data is Agent[] | { agents: Agent[] } {
  const rows = Array.isArray(data) ? data : (data as Json | null)?.["agents"];
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

function serverKeeps(verb: string): RuvllmError {
  const fix = "use the state file on the server";
  return new RuvllmError(`what a server has learnt cannot be ${verb} from a page`, { field: "endpoint", fix });
}
