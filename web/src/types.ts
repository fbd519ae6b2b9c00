/**
 * The shapes that cross from the core to a page. They are those of Python (`ruvllm.types`)
 * and of the HTTP API; names inside a result keep Python's spelling.
 */

import type * as contract from "./contract.js";
import type {
  BackendOptions, BackendProfile, BackendStats, Choice, EdgeKind, ForgetPolicy, KeptFeedback, Limits, Memory, MemoryQuery,
  MemoryStats, NewMemory, Outcome, Pattern, Plan, Reliability, Said,
} from "./workbench.js";

export type { AgentFile, Candidate, Evidence, Finding, JobRun, Passage, Team, TeamMember, Tier } from "./contract.js";

/** What to do with a decision: take it, let a person confirm it, or ask someone stronger. */
export type Action = "use" | "confirm" | "escalate";

/** A specialised agent that tasks can be routed to; all but its name may be left out. */
export type Agent = Pick<contract.Agent, "name"> & Partial<contract.Agent>;

/** The answer to one task. */
export interface Decision extends contract.Decision {
  action: Action;
  /** Where `tier` comes from. */
  choice: ModelChoice;
}

/** How strong a model a task gets, and who says so. */
export type ModelChoice = contract.Choice;


/** A kind of background work: when it last ran, and when it may again, if there is anything to do. */
export type Job = contract.JobStatus;

/** What a router holds and has done; a server and a page say different things beside the first two. */
export interface Stats extends Pick<contract.Stats, "agents" | "encoder">, Partial<Omit<contract.Stats, "agents" | "encoder">> {
  /** How often feedback was fitted once more in the background; a server does not say. */
  reviews?: number;
  /** What RuvLTRA runs on in a page once it is there, and why not on what was asked for. */
  device?: EncoderDevice | "";
  device_note?: string;
  [name: string]: unknown;
}

/** An agent file that was skipped, and how to mend it. */
export type Problem = contract.ProblemRow;

/** The result of `addAgents` and `resetAgents`; whether this browser, or the server, has kept that. */
export type Added = Pick<contract.AgentsChanged, "agents" | "problems"> & Partial<Pick<contract.AgentsChanged, "kept">>;

/** The answer to a complex query, with [n] for source n. */
export type DeepAnswer = contract.RlmAnswer;

/** What `decide` asks: of a choice an option, of a noul yes or no, of a score a level, the lowest first. */
export type Question =
  | { type: "choice"; instructions?: unknown; criteria: Record<string, unknown> }
  | { type: "noul"; instructions?: unknown; criteria?: { true?: unknown; false?: unknown } | null }
  | { type: "score"; instructions?: unknown; criteria: unknown[] };

/** `noul` is the probability of yes, `score` the mean of the levels' numbers; the probabilities of one answer are 1 together. */
export type QuestionAnswer =
  | { type: "choice"; choice: string; confidence: number; probabilities: Record<string, number> }
  | { type: "noul"; noul: number }
  | { type: "score"; score: number; confidence: number; probabilities: Record<string, number>; legend: Record<string, unknown> };

/** The answers of `decide`, by the names of the questions. */
export interface Answers {
  /** `feedbackDecision` takes it. */
  id: string;
  /** The encoder that read the state. */
  model: string;
  answers: Record<string, QuestionAnswer>;
}

/** The right answer to a question: an option, yes or no, the number of a level. */
export type RightAnswer = string | boolean | number;

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

/** The same as transformers.js tells it. */
export type ProgressInfo = { name: string; file: string } & (
  | { status: "initiate" | "done" | "ready" }
  | { status: "progress"; progress: number; loaded: number; total: number }
);

/** Where what is learnt stays. */
export type StateKind = "persistent" | "indexeddb" | "memory";

export type EncoderDevice = "wasm" | "webgpu";

/** What `RuvLLM.load` takes. */
export interface LoadOptions {
  /**
   * The built folder; by default what `<meta name="ruvllm-base">` says, or else where this module was loaded from.
   */
  baseURL?: string | URL;
  /** Agents, or agent files, to route among; the built-in catalog by default. */
  agents?: Agent[] | contract.AgentFile[];
  /** "cascade" (default) answers by the table and asks RuvLTRA when that is unsure. */
  encoder?: "cascade" | "static" | "ruvltra";
  /** Where RuvLTRA runs, "wasm" by default; where no GPU runs it, that is wasm as well, and `stats` says why. */
  device?: EncoderDevice;
  /** The form of its weights, by transformers.js's names; int8 is the one that there is. */
  dtype?: "q8";
  onProgress?: (progress: LoadProgress) => void;
  /** The same in the form of transformers.js. */
  progress_callback?: (info: ProgressInfo) => void;
  /** Ends the loading. */
  signal?: AbortSignal;
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

/** What is heard of a deep query before its answer; `restart` takes back what was written. */
export type DeepEvent =
  | { type: "planned"; plan: { parts: { text: string; after: number[] }[] }; depth: number }
  | { type: "answered"; finding: contract.Finding }
  | { type: "delta"; text: string; restart: boolean };

/** Ends the waiting for an answer, and where a server gives it, its work. */
export interface Abortable {
  signal?: AbortSignal;
}

/** `team`: an unsure decision also names the agents that share the task. */
export interface RouteOptions extends Abortable {
  top?: number;
  team?: boolean;
}

export interface DeepOptions extends Abortable {
  onEvent?: (event: DeepEvent) => void;
  /** A text to answer from, of any length, beside what is remembered. */
  context?: string;
  settings?: Partial<contract.DeepSettings>;
}

/** Routes tasks to agents and learns from feedback, wherever it runs. */
export interface Router {
  /** The agent, confidence and tier for a task. */
  route(text: string, options?: RouteOptions): Promise<Decision>;
  /** The agents that take a compound task together. */
  routeComplex(text: string): Promise<contract.Team>;
  /** The answer to a complex query, put together from those to its parts, which `onEvent` hears as they come. */
  queryDeep(query: string, options?: DeepOptions): Promise<DeepAnswer>;
  /** Unit vectors in the shared space. */
  embed(texts: string[]): Promise<Embeddings>;
  /** More agents; one of the same name is replaced. Added to the built-in ones, they are there again at the next visit. */
  addAgents(agents: Agent[] | contract.AgentFile[]): Promise<Added>;
  /** Forget the added ones: back to those it was loaded with. */
  resetAgents(): Promise<Added>;
  agents(): Promise<Agent[]>;
  /** This text belongs to this agent (weight above 0, up to 10). */
  feedback(text: string, agent: string, weight?: number): Promise<void>;
  /** Typed answers with probabilities to named questions about one state, a text or JSON of up to 64 KiB. */
  decide(state: unknown, questions: Record<string, Question>): Promise<Answers>;
  /** The tools that a task needs, of `tools` (definitions as OpenAI, Anthropic or MCP write them) or of the catalog. */
  searchTools(search: contract.ToolsBody): Promise<contract.ToolsFound>;
  /** How a decision should have been answered; its questions learn it at once. Returns how many examples each has. */
  feedbackDecision(id: string, answer: RightAnswer | Record<string, RightAnswer>): Promise<Record<string, number>>;
  /** The answer to a question, with its sources; in a page from memory alone. */
  query(query: string, options?: { max_tokens?: number; explain?: boolean; session_id?: string } & Abortable): Promise<contract.Response>;
  /** How an answer was, 1 (bad) to 5 (good); null where only more is said. */
  rate(request_id: string, rating: number | null, more?: Said): Promise<contract.Applied>;
  /** Begin a conversation, after what was said before if that is given; its id, which `query` takes as `session_id`. */
  newSession(metadata?: Record<string, unknown>, history?: contract.Turn[]): Promise<string>;
  /** A conversation as it stands; `newSession(metadata, history)` goes on with it elsewhere. */
  session(id: string): Promise<contract.Session>;
  /** Forget a conversation; whether there was one. */
  endSession(id: string): Promise<boolean>;
  /** Remember texts; `chain` makes each follow the one before it. Returns their ids. */
  addMemory(memories: NewMemory[], options?: { chain?: boolean }): Promise<number[]>;
  /** The latest memories, newest first. */
  memories(limit?: number): Promise<Memory[]>;
  /** Make a typed edge, or set the weight of one that is there. */
  linkMemory(source: number, target: number, kind: EdgeKind, weight?: number): Promise<void>;
  /** How many memories there are, how they are searched and stored. */
  memoryStats(): Promise<MemoryStats>;
  /** The sub-queries of a complex query, and who takes each. */
  decompose(query: string): Promise<Plan>;
  /** What to change about the agents: confusable, duplicated, empty ones. */
  lint(): Promise<contract.LintFinding[]>;
  /** The latest feedback, newest first, with the ids that `undoFeedback` takes; and how much there is. */
  feedbackList(limit?: number): Promise<{ feedback: KeptFeedback[]; total: number }>;
  /** Take feedback back, by its id; whether there was such. */
  undoFeedback(id: number): Promise<boolean>;
  /** How often decisions of each confidence were right, of those that feedback spoke of. */
  reliability(): Promise<Reliability>;
  /** Do what of the background work is due, for about so many seconds; all hosts do it by themselves when it is quiet. */
  runJobs(budget?: number): Promise<contract.JobRun[]>;
  /** Distil patterns of all that was rated, now instead of in the background. */
  learnPatterns(): Promise<Pattern[]>;
  /** Choose among these LLMs from now on. */
  setBackends(backends: BackendProfile[], options?: BackendOptions): Promise<BackendStats>;
  /** The LLM for a prompt. */
  select(prompt: string, limits?: Limits): Promise<Choice>;
  /** What came of a choice. */
  recordOutcome(choice_id: string, outcome: Outcome): Promise<BackendStats>;
  backendStats(): Promise<BackendStats>;
  /** What is remembered that means something similar, best first. */
  searchMemory(query: string, options?: MemoryQuery): Promise<contract.MemoryHit[]>;
  /** A memory with what superseded it and what it superseded, the oldest first. */
  memoryTimeline(id: number): Promise<contract.MemoryRow[]>;
  /** Undo a supersession: let memories hold again; how many had ended. */
  reopenMemory(ids: number[]): Promise<number>;
  /** Remove memories for good, by their ids or by a policy; how many there were. */
  forgetMemory(what: number[] | ForgetPolicy): Promise<number>;
  /** What lies around some memories. */
  memoryGraph(ids: number[], hops?: number): Promise<contract.MemoryGraph>;
  /** Join memories that belong together, all with all, by a hyperedge; returns its id. */
  bindMemories(members: number[], options?: { kind?: EdgeKind; weight?: number; metadata?: object }): Promise<number>;
  /** Take a hyperedge away, never its members; whether it was there. */
  unbindMemories(id: number): Promise<boolean>;
  /** What has worked for which kind of task, as far as ratings taught it. */
  patterns(limit?: number): Promise<Pattern[]>;
  /** Everything learnt and the agents added to the built-in ones, as one SQLite file that opens on every host. */
  export(): Promise<Uint8Array>;
  /** Replace all of that by an exported file; one that says nothing of agents leaves them as they are. */
  import(bytes: Uint8Array): Promise<void>;
  stats(): Promise<Stats>;
  close(): Promise<void>;
  /** The same. */
  dispose(): Promise<void>;
  /** `close`, as `await using` calls it. */
  [Symbol.asyncDispose](): Promise<void>;
}
