/**
 * The shapes of what runs beside routing: memory, answers from it, sub-queries, the choice of LLM backends, what
 * feedback taught. They are those of Python and of the HTTP API.
 */
import type { Decision } from "./types.js";

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
}

export interface Memory extends Required<NewMemory> {
  id: number;
  /** How often a search returned it. */
  accesses: number;
  /** Seconds since 1970. */
  created: number;
  accessed: number;
  archived: boolean;
}

/** A memory with its cosine to the query, and its edges away from the nearest direct hit. */
export interface MemoryHit extends Memory {
  score: number;
  hops: number;
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
  nodes: (Memory & { hops: number })[];
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

export interface Source {
  id: number;
  text: string;
  score: number;
  kind: NodeKind;
  hops: number;
}

/** The answer to one question; `latency` is in microseconds. */
export interface Answer {
  request_id: string;
  text: string;
  agent: string;
  /** Of the answer, by its backend; null where that tells none. */
  confidence: number | null;
  /** Where the question was routed, and how sure that is. */
  decision: Decision;
  /** What the answer had to do without. */
  warnings: string[];
  tier: number;
  sources: Source[];
  routing: { model: string; backend: string };
  cost: number;
  latency: Record<string, number>;
  /** Which memories it draws on, where that was asked for and there are such. */
  attention: AttentionSummary | null;
}

/** Where an answer comes from. */
export interface AttentionSummary {
  /** Ids of memories, each with its part of the answer, largest first; these sum to 1. */
  ranked: [number, number][];
  entropy: number;
  mean: number;
  gini: number;
  /** What came along edges of each kind, and from the memories themselves as "Self". */
  influence: Record<string, number>;
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
export interface Applied {
  /** "confirmed", "corrected" or "rejected"; "" where nothing was said of it: a rating is of the answer. */
  agent: string;
  memories: number;
  edges: number;
  remembered: number | null;
  trajectory: boolean;
}

export interface SubQuery {
  text: string;
  /** Places of the sub-queries whose answers it needs; all before its own. */
  after: number[];
  decision: Decision;
}

export interface Plan {
  query: string;
  /** "compare" sets the answers side by side. */
  join: "parts" | "compare";
  /** False: it is best answered whole, and is its only part. */
  split: boolean;
  parts: SubQuery[];
}

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
  /** Answers after which half of the choices under a budget still are random; 60 by default. */
  explore?: number;
}

export interface Limits {
  max_cost?: number;
  max_latency?: number;
  min_quality?: number;
}

export interface Choice {
  choice_id: string;
  backend: string;
  /** As expected. */
  quality: number;
  cost: number;
  latency: number;
  value: number;
  alternatives: string[];
}

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
  explore: number;
  profiles: BackendProfile[];
  backends: { name: string; calls: number; share: number; cost: number; latency: number; quality: number | null }[];
  curve: { answers: number; spent: number; always_dearest: number; quality: number }[];
}

export interface Pattern {
  id: number;
  pattern_type: string;
  route: string;
  cluster_size: number;
  avg_quality: number;
  access_count: number;
  contexts: string[];
  actions: string[];
}

export interface KeptFeedback {
  id: number;
  text: string;
  agent: string;
  /** False says that it does not belong there. */
  right: boolean;
  rating: number | null;
  created: number;
}

/** Decisions that feedback told of, by their confidence; bins without any are left out. */
export interface Reliability {
  decisions: number;
  right: number;
  /** Expected calibration error. */
  ece: number | null;
  bins: { from: number; to: number; count: number; confidence: number; right: number }[];
}
