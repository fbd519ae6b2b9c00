/**
 * The shapes that cross from the core to a page. They are those of Python (`ruvllm.types`)
 * and of the HTTP API; names inside a result keep Python's spelling.
 */

/** 1: no LLM at all; 2: a small LLM; 3: a large one. */
export type Tier = 1 | 2 | 3;

/** What to do with a decision: take it, let a person confirm it, or ask someone stronger. */
export type Action = "use" | "confirm" | "escalate";

/** A specialised agent that tasks can be routed to. */
export interface Agent {
  name: string;
  description?: string;
  category?: string;
  keywords?: string[];
  /** Tasks that belong to this agent. */
  examples?: string[];
  /** Pins the model tier; with neither `tier` nor `model`, the task's difficulty decides. */
  tier?: Tier | null;
  model?: string | null;
  tools?: string[];
  /** A candidate only for tasks that hold all words of one of these: an agent of a product, where it is named. */
  requires?: string[];
}

/** A file as a person dropped it: `agents/reviewer.md` and its text. */
export interface AgentFile {
  path: string;
  text: string;
}

/** One agent with the calibrated probability that it is the right one. */
export interface Candidate {
  agent: string;
  confidence: number;
}

/** Why a decision came out as it did. */
export interface Evidence {
  /** Words of the task that match the agent's own. */
  keywords: string[];
  /** The agent's nearest examples, each with its cosine. */
  examples: [string, number][];
  /** Feature name to value for the chosen agent. */
  scores: Record<string, number>;
}

/** The answer to one task. */
export interface Decision {
  agent: string;
  /** Calibrated probability that the agent is right. */
  confidence: number;
  tier: Tier;
  action: Action;
  /** Calibrated probability that no agent fits. */
  out_of_scope: number;
  /** The next best, best first. */
  alternatives: Candidate[];
  /** What decided: "static", "ruvltra" or "cascade" (both together). */
  encoder: string;
  evidence: Evidence;
  /** Stage to microseconds. */
  timings_us: Record<string, number>;
  cached: boolean;
}

/** One part of a compound task and the agent that takes it. */
export interface TeamMember {
  agent: string;
  role: string;
  task: string;
  confidence: number;
}

/** The agents that take a compound task together, in working order. */
export interface Team {
  members: TeamMember[];
  tier: Tier;
}

/** One run of background work. */
export interface JobRun {
  name: string;
  /** What it did; empty when it was stopped or failed. */
  outcome: string;
  seconds: number;
  /** It took longer than it may; it is tried again, with more time. */
  stopped: boolean;
  /** When it ended, in seconds since 1970. */
  at: number;
  error: string;
}

/** A kind of background work: when it last ran, and when it may again, if there is anything to do. */
export interface Job {
  name: string;
  /** Seconds from one run to the next. */
  interval: number;
  due: boolean;
  /** Seconds since 1970. */
  next: number;
  last: JobRun | null;
  failure: JobRun | null;
}

/** What a router holds and has done. */
export interface Stats {
  agents: number;
  /** The mode at this moment: "static" until RuvLTRA has arrived and read the agents, then "cascade". */
  encoder: string;
  /** How often feedback was fitted once more in the background; a server does not say. */
  reviews?: number;
  /** Background work: writing, reviews, distilling and the like. */
  jobs?: Job[];
  /** How many agents were added to those it was loaded with. */
  own_agents?: number;
  [name: string]: unknown;
}

/** An agent file that was skipped, and how to mend it. */
export interface Problem {
  field: string;
  message: string;
  fix: string;
}

/** The result of `addAgents` and `resetAgents`. */
export interface Added {
  /** How many agents there are now. */
  agents: number;
  problems: Problem[];
  /** Whether this browser has kept that for later visits, or the server for its next start. */
  kept?: boolean;
}

/** Rows of unit vectors, `data.length / dim` of them, one after the other. */
export interface Embeddings {
  dim: number;
  data: Float32Array;
}

/** A stage of loading: "ready" means that it routes; "ruvltra" goes on behind it. */
export type Stage = "python" | "packages" | "static" | "ready" | "ruvltra";

/** How far a stage has come. */
export interface LoadProgress {
  stage: Stage;
  /** Bytes so far. */
  loaded: number;
  /** Bytes in all. */
  total: number;
}

/** Where what is learnt stays. */
export type StateKind = "persistent" | "indexeddb" | "memory";

/** What `RuvLLM.load` takes. */
export interface LoadOptions {
  /** The folder that `make web` built; by default the one this module was loaded from. */
  baseURL?: string | URL;
  /** Agents, or agent files, to route among; the built-in catalog by default. */
  agents?: Agent[] | AgentFile[];
  /** "cascade" (default) answers by the table and asks RuvLTRA when that is unsure. */
  encoder?: "cascade" | "static" | "ruvltra";
  onProgress?: (progress: LoadProgress) => void;
  /**
   * "persistent" (default) keeps what is learnt, and agents added to the built-in ones, in this browser: in a private
   * file where it has such, else in IndexedDB. "indexeddb" takes that in any case; "memory" forgets with the page.
   */
  state?: StateKind;
  /**
   * Milliseconds without feedback after which all of it is fitted once more in the background, as soon as it is quiet,
   * 30 000 by default; 0 waits until there is much of it, or some is an hour old.
   */
  reviewAfter?: number;
  /** Whether a later visit may start from a memory snapshot that the first one keeps (30 MB); true by default. */
  snapshot?: boolean;
  /**
   * Whether the page will call `keepOffline`: then the encoder is put where that looks for it, and nothing is loaded
   * twice in a private window either, whose own cache takes no file as large. False by default.
   */
  offline?: boolean;
}

/** Routes tasks to agents and learns from feedback, wherever it runs. */
export interface Router {
  /** The agent, confidence and tier for a task. */
  route(text: string, options?: { top?: number }): Promise<Decision>;
  /** The agents that take a compound task together. */
  routeComplex(text: string): Promise<Team>;
  /** Unit vectors in the shared space. */
  embed(texts: string[]): Promise<Embeddings>;
  /** More agents; one of the same name is replaced. Added to the built-in ones, they are there again at the next visit. */
  addAgents(agents: Agent[] | AgentFile[]): Promise<Added>;
  /** Forget the added ones: back to those it was loaded with. */
  resetAgents(): Promise<Added>;
  agents(): Promise<Agent[]>;
  /** This text belongs to this agent (weight above 0, up to 10). */
  feedback(text: string, agent: string, weight?: number): Promise<void>;
  /** Everything learnt and the agents added to the built-in ones, as one SQLite file that opens on every host. */
  export(): Promise<Uint8Array>;
  /** Replace all of that by an exported file; one that says nothing of agents leaves them as they are. */
  import(bytes: Uint8Array): Promise<void>;
  stats(): Promise<Stats>;
  close(): Promise<void>;
}
