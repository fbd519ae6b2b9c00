/**
 * The shapes of what runs beside routing: memory, answers from it, sub-queries, the choice of LLM backends, what
 * feedback taught. They are those of Python and of the HTTP API.
 */
import type * as contract from "./contract.js";
import type { Decision, ModelChoice } from "./types.js";

/** What a memory is, and what an edge between two of them means. */
export type NodeKind = "Query" | "Document" | "QAPair" | "AgentStep" | "Fact" | "Concept";
export type EdgeKind = "Cites" | "Follows" | "SameTopic" | "AgentStep" | "Derived" | "Contains";

export interface NewMemory {
  text: string;
  kind?: NodeKind;
  collection?: string;
  metadata?: Record<string, unknown>;
  /** 0 to 1. */
  quality?: number;
  /** Dates: when it was said, from when it holds, from when it holds no longer, when it is forgotten. */
  observed_at?: string;
  valid_from?: string;
  valid_to?: string;
  expires?: string;
  speaker?: string;
  /** Whose knowledge it is; everybody's without. */
  agent_id?: string;
}

/** Until when a memory held, which one holds instead, and why. */
export interface Closed {
  until: number;
  successor: number | null;
  reason: string;
  confidence: number;
}

export interface Memory extends Required<Pick<NewMemory, "text" | "kind" | "collection" | "metadata" | "quality">> {
  id: number;
  /** From when until when it holds, in seconds since 1970; null for no end. */
  since: number;
  until: number | null;
  closed: Closed | null;
  /** How often it was said. */
  said: number;
  /** How often a search returned it. */
  accesses: number;
  /** Seconds since 1970. */
  created: number;
  accessed: number;
  archived: boolean;
}

/** How memories are searched: what they mean and say (hybrid, the default), or one of these. */
export interface MemoryQuery {
  k?: number;
  collection?: string;
  hops?: number;
  filter?: object;
  search?: "hybrid" | "vectors" | "words";
  /** As of this date: "2023-05-08", "March 2023". */
  at?: string;
  /** Memories before and after a hit in its conversation or document that come with it, as its passage; up to 8. */
  window?: number;
  /** 0 to 1: what being of today adds to a score. */
  recency?: number;
  /** Find what is this agent's and what is shared. */
  agent_id?: string;
}

/** Which memories to forget: by id, those that have expired, and those that fulfil all else that is given. */
export interface ForgetPolicy {
  ids?: number[];
  filter?: object;
  collection?: string;
  /** A date; those remembered before it. */
  before?: string;
  expired?: boolean;
  /** Leave no byte of them in the state file, which is written anew. */
  erase?: boolean;
}

/** What a memory's score is the sum of. */
export interface MemoryWhy {
  cosine: number;
  words: number;
  speaker: number;
  neighbour: number;
  time: number;
  graph: number;
}

/** A memory with its score, what that is the sum of, and its edges away from the nearest direct hit. */
export interface MemoryHit extends Memory {
  score: number;
  hops: number;
  why: MemoryWhy | null;
  /** What was said before and after it, itself among it; empty without a window. */
  passage: MemoryHit[];
}

export interface MemoryEdge {
  source: number;
  target: number;
  kind: EdgeKind;
  /** 0 to 1. */
  weight: number;
}

/** Memories that belong together; its weight moves with ratings. */
export interface Hyperedge {
  id: number;
  members: number[];
  kind: EdgeKind;
  weight: number;
  metadata: Record<string, unknown>;
}

export interface MemoryGraph {
  nodes: (Omit<Memory, "since" | "until" | "closed" | "said"> & { hops: number })[];
  /** Among these a hyperedge is a star around one of its members. */
  edges: MemoryEdge[];
  hyperedges: Hyperedge[];
}

export interface MemoryStats {
  space: string;
  collections: Record<string, number>;
  /** By collection and tier (f32, f16, pq8, binary, file): memories, and bytes of their vectors in memory. */
  tiers: Record<string, Record<string, { count: number; bytes: number }>>;
  /** By collection: how it is searched. */
  indexes: Record<string, { kind: string; size: number; recall?: number }>;
  edges: number;
  vectors: number;
  vector_bytes: number;
  /** Of a number in the state file. */
  format: string;
  dim: number;
}

export interface Source extends contract.Source {
  kind: NodeKind;
}

/** The answer to one question; `latency` is in microseconds. */
export interface Answer extends contract.Response {
  decision: Decision;
  /** How strong a model was asked, who decided that, why, and what it was expected to cost and take. */
  choice: ModelChoice;
  sources: Source[];
}

/** What is said of an answer beside its rating. */
export interface Said {
  /** The better answer, which is remembered instead. */
  correction?: string;
  /** Whether the task was solved. */
  task_success?: boolean;
  /** Who is right for the question. */
  agent?: string;
}

/** What a rating changed. */
export type Applied = contract.Applied;

/** A sub-query: places of those whose answers it needs, all before its own, and who would take it. */
export type SubQuery = contract.PlanPart & { decision: Decision };

/** "compare" sets the answers side by side; `split` is false for what is best answered whole, and is its only part. */
export type Plan = Omit<contract.PlanRow, "parts"> & { parts: SubQuery[] };

/** An LLM: dollars and milliseconds of an answer, and its mean quality, 0 to 1. */
export interface BackendProfile {
  name: string;
  cost: number;
  latency: number;
  quality: number;
}

export interface BackendOptions {
  /** Mean dollars of a prompt; without one the best quality / (cost · latency) is taken. */
  budget?: number | null;
}

export interface Limits {
  max_cost?: number;
  max_latency?: number;
  min_quality?: number;
}

/** The LLM for a prompt; quality, cost and latency as expected. */
export type Choice = contract.BackendChoice;

export interface Outcome {
  success?: boolean;
  quality?: number;
  cost?: number;
  latency?: number;
}

export interface BackendStats {
  prompts: number;
  answers: number;
  spent: number;
  /** What the dearest backend would have taken for the same. */
  always_dearest: number;
  /** 0 to 1. */
  savings: number;
  /** Why what was learnt before could not be taken up, "" otherwise. */
  lost: string;
  quality: number | null;
  budget: number | null;
  profiles: BackendProfile[];
  backends: { name: string; calls: number; share: number; cost: number; latency: number; quality: number | null }[];
  curve: { answers: number; spent: number; always_dearest: number; quality: number }[];
}

export type Pattern = Omit<contract.PatternRow, "created_at" | "last_accessed" | "metadata">;

/** `right` false says that the text does not belong to the agent. */
export type KeptFeedback = contract.FeedbackEntry;

/** Decisions that feedback told of, by their confidence; bins without any are left out. `ece` is the expected calibration error. */
export type Reliability = contract.Reliability;

export interface CoordinatorOptions {
  /** An API key of that server, where it wants one. */
  key?: string;
}

export interface PushOptions extends CoordinatorOptions {
  /** Also what has travelled before, to a server that has not got it. */
  everything?: boolean;
}

/** What travelled: texts and groups of them that were taken, groups that were refused, texts that wait for others. */
export interface Pushed {
  texts: number;
  groups: number;
  refused: number;
  updates: number;
  bytes: number;
  waiting: number;
  /** Of models' answers. */
  outcomes: number;
}

/** What others have taught: how many routes, which agents and models here it speaks of, from how many texts. */
export interface Pulled {
  routes: number;
  agents: string[];
  texts: number;
  changed: boolean;
  models: string[];
}
