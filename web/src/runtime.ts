/** All that a router in this page or process can be asked; methods that a server has too are named as there. */
import type { Call, JobRun, LintFinding, Session, ToolsBody, ToolsFound, Turn } from "./contract.js";
import type {
  Abortable, Added, Agent, AgentFile, Answers, Decision, DeepAnswer, DeepEvent, DeepOptions, Embeddings, Question, RightAnswer,
  RouteOptions,
  Router, Stats, Team,
} from "./types.js";
import type {
  Answer, Applied, BackendOptions, BackendProfile, BackendStats, Choice, CoordinatorOptions, EdgeKind, ForgetPolicy,
  KeptFeedback, Limits, Memory, MemoryGraph, MemoryHit, MemoryQuery, MemoryStats, NewMemory, Outcome, Pattern, Plan,
  Pulled, Pushed, PushOptions, Reliability, Said,
} from "./workbench.js";
import { options as plainOptions } from "./plain.js";
import { until } from "./waiting.js";

export type { Call } from "./contract.js";
export type * from "./workbench.js";

/** Whose results the state file keeps; those of `record_outcome` once no more have come for a moment. */
export const CHANGES: ReadonlySet<Call> = new Set<Call>([
  "add_agents", "add_memory", "bind_memories", "feedback", "feedback_decision", "forget_memory", "learn_patterns",
  "link_memory", "pull", "push", "rate", "reopen_memory", "reset_agents", "run_jobs", "save_backends", "set_backends",
  "unbind_memories", "undo_feedback", "undo_pull",
]);

/** A router with all that runs beside it. */
export abstract class Runtime implements Router {
  /** One of its methods, with Python's keyword arguments; null is the same as left out. */
  abstract ask<T>(call: Call, body?: object): Promise<T>;
  abstract export(): Promise<Uint8Array>;
  abstract import(bytes: Uint8Array): Promise<void>;
  abstract close(): Promise<void>;

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  dispose(): Promise<void> {
    return this.close();
  }

  /** Learning together with others through a ruvllm server: sums travel, never a text. */
  readonly learn = {
    /** Send what was learnt here since the last time, or all of it; what travelled. */
    push: (url: string, { key = "", everything = false }: PushOptions = {}): Promise<Pushed> =>
      this.ask("push", { url, key, everything }),
    /** Route, search and choose by what others have pushed there as well; what came. */
    pull: (url: string, { key = "" }: CoordinatorOptions = {}): Promise<Pulled> => this.ask("pull", { url, key }),
    /** Go by what was learnt here alone; whether anything had been pulled. */
    undo: (): Promise<boolean> => this.ask("undo_pull"),
  };

  route(text: string, given?: RouteOptions): Promise<Decision> {
    const { signal, ...options } = plainOptions(given);
    return until(signal, () => this.ask("route", { text, ...options }));
  }

  routeComplex(text: string): Promise<Team> {
    return this.ask("route_complex", { text });
  }

  embed(texts: string[]): Promise<Embeddings> {
    return this.ask("embed", { texts });
  }

  addAgents(agents: Agent[] | AgentFile[]): Promise<Added> {
    return this.ask("add_agents", { agents });
  }

  resetAgents(): Promise<Added> {
    return this.ask("reset_agents");
  }

  agents(): Promise<Agent[]> {
    return this.ask("agents");
  }

  async feedback(text: string, agent: string, weight?: number): Promise<void> {
    await this.ask("feedback", { text, agent, weight });
  }

  decide(state: unknown, questions: Record<string, Question>): Promise<Answers> {
    return this.ask("decide", { state, questions });
  }

  searchTools(search: ToolsBody): Promise<ToolsFound> {
    return this.ask("search_tools", search);
  }

  feedbackDecision(id: string, answer: RightAnswer | Record<string, RightAnswer>): Promise<Record<string, number>> {
    return this.ask("feedback_decision", { id, answer });
  }

  /** Take feedback back, by its id; whether there was such. */
  undoFeedback(id: number): Promise<boolean> {
    return this.ask("undo_feedback", { id });
  }

  stats(): Promise<Stats> {
    return this.ask("stats");
  }

  /** The answer to a question, from memory, with its sources; `explain` adds what it draws on. */
  query(query: string, given?: { max_tokens?: number; explain?: boolean; agent_id?: string; session_id?: string } & Abortable): Promise<Answer> {
    const { signal, ...options } = plainOptions(given);
    return until(signal, () => this.ask("query", { query, ...options }));
  }

  /** Begin a conversation, after what was said before if that is given; its id, which `query` takes as `session_id`. */
  newSession(metadata: Record<string, unknown> = {}, history: Turn[] = []): Promise<string> {
    return this.ask("new_session", { metadata, history });
  }

  /** A conversation as it stands. */
  session(id: string): Promise<Session> {
    return this.ask("session", { id });
  }

  /** Forget a conversation; whether there was one. */
  endSession(id: string): Promise<boolean> {
    return this.ask("end_session", { id });
  }

  /** Do what of the background work is due, for about so many seconds; a page does it by itself when it is quiet. */
  runJobs(budget?: number): Promise<JobRun[]> {
    return this.ask("run_jobs", { budget });
  }

  /** The answer to a complex query, put together from those to its parts; here from memory, with their sources. */
  async queryDeep(query: string, given?: DeepOptions): Promise<DeepAnswer> {
    const { onEvent, signal, ...options } = plainOptions(given);
    const id = await until(signal, () => this.ask<string>("query_deep", { query, ...options }));
    const next = () => this.ask<DeepEvent | { type: "answer"; answer: DeepAnswer }>("deep_event", { id });
    try {
      for (;;) {
        const event = await until(signal, next);
        if (event.type === "answer") return event.answer;
        onEvent?.(event);
      }
    } catch (error) {
      void this.ask("end_deep", { id }).catch(() => undefined);
      throw error;
    }
  }

  /** How an answer was, 1 (bad) to 5 (good); null where only more is said. */
  rate(request_id: string, rating: number | null, more: Said = {}): Promise<Applied> {
    return this.ask("rate", { request_id, rating, ...more });
  }

  lint(): Promise<LintFinding[]> {
    return this.ask("lint");
  }

  decompose(query: string): Promise<Plan> {
    return this.ask("decompose", { query });
  }

  /** Remember texts; `chain` makes each follow the one before it. Returns their ids. */
  async addMemory(memories: NewMemory[], options: { chain?: boolean } = {}): Promise<number[]> {
    return (await this.ask<{ ids: number[] }>("add_memory", { memories, ...options })).ids;
  }

  /** Memories like a text; `hops` looks at what is so many edges away as well. */
  async searchMemory(query: string, options: MemoryQuery = {}): Promise<MemoryHit[]> {
    return (await this.ask<{ memories: MemoryHit[] }>("search_memory", { query, ...options })).memories;
  }

  /** The latest memories, newest first. */
  async memories(limit = 200): Promise<Memory[]> {
    return (await this.ask<{ memories: Memory[] }>("memories", { limit })).memories;
  }

  /** What lies around some memories. */
  memoryGraph(ids: number[], hops = 1): Promise<MemoryGraph> {
    return this.ask("memory_graph", { ids, hops });
  }

  async linkMemory(source: number, target: number, kind: EdgeKind, weight = 1): Promise<void> {
    await this.ask("link_memory", { source, target, kind, weight });
  }

  /** Join memories that belong together, all with all, by a hyperedge; returns its id. */
  async bindMemories(members: number[], options: { kind?: EdgeKind; weight?: number; metadata?: object } = {}): Promise<number> {
    return (await this.ask<{ id: number }>("bind_memories", { members, ...options })).id;
  }

  /** Take a hyperedge away, never its members; whether it was there. */
  unbindMemories(id: number): Promise<boolean> {
    return this.ask("unbind_memories", { id });
  }

  /** Remove memories for good, by their ids or by a policy; how many there were. */
  async forgetMemory(what: number[] | ForgetPolicy): Promise<number> {
    return (await this.ask<{ forgotten: number }>("forget_memory", Array.isArray(what) ? { ids: what } : what)).forgotten;
  }

  /** A memory with what superseded it and what it superseded, the oldest first, and why each ended. */
  async memoryTimeline(id: number): Promise<Memory[]> {
    return (await this.ask<{ memories: Memory[] }>("memory_timeline", { id })).memories;
  }

  /** Undo a supersession: let memories hold again; how many had ended. */
  async reopenMemory(ids: number[]): Promise<number> {
    return (await this.ask<{ reopened: number }>("reopen_memory", { ids })).reopened;
  }

  memoryStats(): Promise<MemoryStats> {
    return this.ask("memory_stats");
  }

  /** What has worked for which kind of task, as far as ratings taught it. */
  async patterns(limit = 20): Promise<Pattern[]> {
    return (await this.ask<{ patterns: Pattern[] }>("patterns", { limit })).patterns;
  }

  /** Distil patterns of all that was rated, now instead of in the background. */
  async learnPatterns(): Promise<Pattern[]> {
    return (await this.ask<{ patterns: Pattern[] }>("learn_patterns")).patterns;
  }

  /** The latest feedback, newest first, with the ids that `undoFeedback` takes; and how much there is. */
  feedbackList(limit = 50): Promise<{ feedback: KeptFeedback[]; total: number }> {
    return this.ask("feedback_list", { limit });
  }

  reliability(): Promise<Reliability> {
    return this.ask("reliability");
  }

  /** Choose among these LLMs from now on. */
  setBackends(backends: BackendProfile[], options: BackendOptions = {}): Promise<BackendStats> {
    return this.ask("set_backends", { backends, ...options });
  }

  /** The LLM for a prompt. */
  select(prompt: string, limits: Limits = {}): Promise<Choice> {
    return this.ask("select", { prompt, ...limits });
  }

  /** What came of a choice. */
  recordOutcome(choice_id: string, outcome: Outcome): Promise<BackendStats> {
    return this.ask("record_outcome", { choice_id, ...outcome });
  }

  backendStats(): Promise<BackendStats> {
    return this.ask("backend_stats");
  }
}
