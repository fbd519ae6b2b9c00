/** Made by `make contract` of the server's OpenAPI document and the page's Python: not to be edited. */

/** What became of one update. */
export interface Accepted {
  groups: number;
  texts: number;
  /** groups that were not good enough or of a route that is not allowed. */
  refused: number;
  /** whether it had come before; then nothing of it was taken. */
  again: boolean;
  /** whether it was the one that made the coordinator consolidate. */
  consolidated: boolean;
  /** of models' answers, taken. */
  outcomes: number;
}

/** A specialised agent that tasks can be routed to. `examples` are tasks that belong to this agent. `tier` (or `model`, e.g. "haiku", "sonnet", "opus") names the model tier of all its tasks; with neither, what was learnt and the task decide (`sizing.tiers.choose`). Of a built-in agent it is a suggestion. One with `requires` is a candidate only for tasks that hold all words of one of these entries, as an agent of a product is only where the product is named. `kind` is "agent", "skill", "command" or "tool"; `scope` says who put it there: "project", "user", "plugin", or "" for whoever runs this. `body` is what it is told, or what a tool's parameters are. >>> Agent("barista", "Makes coffee.", examples=("froth the milk",)) Agent(name='barista', description='Makes coffee.', examples=('froth the milk')) */
export interface Agent {
  name: string;
  description: string;
  category: string;
  keywords: string[];
  examples: string[];
  tier: Tier | null;
  model: string | null;
  tools: string[];
  source: string;
  requires: string[];
  kind: string;
  scope: string;
  body: string;
}

/** A file that holds agents: Claude Code's *.md, or .json, .toml, .yaml. */
export interface AgentFile {
  path: string;
  text: string;
}

/** All agents routed among. */
export interface Agents {
  agents: Agent[];
  fitting?: Fitting;
}

/** Agents to add, as they are or in files; one of a known name takes the other's place. */
export interface AgentsChange {
  agents?: Record<string, unknown>[];
  files?: AgentFile[];
}

/** How many agents there are, those that are being fitted included. */
export interface AgentsChanged {
  agents: number;
  problems: ProblemRow[];
  kept: boolean;
  fitting?: Fitting;
}

/** What feedback about a request changed. */
export interface Applied {
  /** "confirmed", "corrected", "rejected", or "" where nothing was said about it: a rating is of the answer. */
  agent: string;
  /** whose quality moved. */
  memories: number;
  /** whose weight moved. */
  edges: number;
  /** id of the question and answer (the better one, after a correction) in memory, if they are there. */
  remembered: number | null;
  /** whether it taught patterns. */
  trajectory: boolean;
  /** whether the model router will learn from it. */
  model_choice: boolean;
}

/** Where an answer comes from. */
export interface AttentionSummary {
  /** (id of a memory, its share of the answer), largest first; the shares sum to 1. */
  ranked: [number, number][];
  /** of the shares, in nats; 0 when one memory gives all. */
  entropy: number;
  /** share of a memory. */
  mean: number;
  /** 0 when all give alike, towards 1 when few give all. */
  gini: number;
  /** what came along edges of each kind, and from the memories "Self"; sums to 1. */
  influence: Record<string, number>;
}

/** One request or command. */
export interface AuditRow {
  /** ISO 8601, UTC. */
  time: string;
  /** method and path of the operation, with its parameters in braces, or the command. */
  action: string;
  /** the status; 0 where the client left. */
  outcome: number;
  /** the name of the caller's key, "" for who has none that is valid. */
  key: string;
  space: string;
  role: string;
  /** the key or space that was managed. */
  about: string;
  /** its id. */
  request: string;
}

/** The oldest first. */
export interface AuditRows {
  rows: AuditRow[];
}

/** An LLM: dollars and milliseconds of an answer, and its mean quality. */
export interface Backend {
  name: string;
  cost: number;
  latency?: number;
  quality?: number;
}

/** The LLM for a prompt; quality, cost and latency as expected. */
export interface BackendChoice {
  choice_id: string;
  backend: string;
  quality: number;
  cost: number;
  latency: number;
  value: number;
  alternatives: string[];
}

/** LLMs to choose among, within a mean budget of dollars a prompt. */
export interface BackendsBody {
  backends: Backend[];
  budget?: number | null;
}

/** One agent with the calibrated probability that it is the right one. >>> llm.route("add tests", top=2).alternatives[0] Candidate(agent=..., confidence=...) */
export interface Candidate {
  agent: string;
  confidence: number;
}

/** How strong a model a task gets, and who says so (FEATURES.md R10). */
export interface Choice {
  tier: Tier;
  /** who decided: "request", "limits", "session", "agent", "edit", "outcomes", "sizes", "difficulty", "escalation" or "default", as `sizing.tiers.choose` puts them in order. */
  by: string;
  /** in words. */
  why: string;
  /** US dollars that an answer of this tier is expected to take. */
  cost: number;
  /** milliseconds that it is expected to take. */
  latency_ms: number;
  /** that answers; "" where none is configured. */
  backend: string;
  /** the other tiers that the limits allow. >>> llm.route("write unit tests for the parser").choice.by 'default' */
  others: Tier[];
}

/** Until when a memory held, and which other one says so. */
export interface ClosedMemory {
  until: number;
  successor: number | null;
  reason: string;
  confidence: number;
}

/** The answer to one task. What hardly anybody reads of it is worked out when somebody does. >>> decision = llm.route("write unit tests for the parser") >>> decision.agent, decision.confidence > 0.9 ('tester', True) */
export interface Decision {
  agent: string;
  confidence: number;
  tier: Tier;
  action: string;
  out_of_scope: number;
  alternatives: Candidate[];
  encoder: string;
  evidence: Evidence;
  timings_us: Record<string, number>;
  cached: boolean;
  choice: Choice | null;
  team: string[];
}

/** Limits and habits of recursive answering, as those of Python's RlmConfig. */
export interface DeepSettings {
  max_depth?: number;
  max_sub_queries?: number;
  token_budget?: number;
  top_k?: number;
  reflections?: number;
  min_quality?: number;
  max_parallel?: number;
  answer_tokens?: number;
}

/** A typed edge to make; of one that is there, the weight to set. */
export interface EdgeBody {
  source: number;
  target: number;
  kind: "AgentStep" | "Cites" | "Contains" | "Derived" | "Follows" | "SameTopic";
  weight?: number;
}

/** Why a decision came out as it did. >>> "tests" in llm.route("write unit tests for the parser").evidence.keywords True */
export interface Evidence {
  keywords: string[];
  examples: [string, number][];
  scores: Record<string, number>;
}

/** Counts since the coordinator began, but `groups`, `texts` and `answers`, which it holds now. */
export interface FederatedStats {
  agents: number;
  updates: number;
  pending: number;
  consolidations: number;
  groups: number;
  texts: number;
  refused: number;
  /** contributions to a route that lay too far from what the other agents say of it. */
  outliers: number;
  /** the weakest promise of any agent; null when one sent without noise, or nobody sent. */
  epsilon: number | null;
  /** of models, whose outcomes are known. */
  answers: number;
}

/** Either `text` and `agent`: this task belongs to this agent. Or `request_id`: how an answer was. With a request, `correction` is the better answer, and `agent` who is right for the question. With the id of a decision, `answer` is the right answer to its question, or {question: answer} for any of several. */
export interface FeedbackBody {
  text?: string | null;
  agent?: string | null;
  weight?: number;
  request_id?: string | null;
  rating?: number | null;
  correction?: string | null;
  task_success?: boolean | null;
  /** false: the text does not belong to the agent */
  right?: boolean;
  /** an option, yes or no, a level */
  answer?: string | boolean | number | Record<string, string | boolean | number>;
}

/** The newest first, and how many there are in all. */
export interface FeedbackEntries {
  feedback: FeedbackEntry[];
  total: number;
}

/** Feedback that is learnt from; `right` false says that the text does not belong to the agent. */
export interface FeedbackEntry {
  id: number;
  text: string;
  agent: string;
  right: boolean;
  rating: number | null;
  created: number;
}

/** The answer to one sub-query. */
export interface Finding {
  query: string;
  /** "" if there is none; [n] names a source. */
  text: string;
  /** by their number, from 1. */
  sources: Passage[];
  /** 0 for the query itself. */
  depth: number;
  /** why there is no answer: "not found", "budget", "deadline", or a backend's error; "" if there is one. */
  missing: string;
}

/** Agents that are acknowledged and not yet routed among. It is over when `GET /v1/agents` has it no more. */
export interface Fitting {
  agents: number;
  seconds: number;
  steps: number;
  /** about how much of it */
  done: number;
  problem: string;
}

/** Which memories to forget: `ids`, those that have expired, and those that fulfil all else that is given. */
export interface ForgetBody {
  ids?: number[];
  filter?: Record<string, unknown> | null;
  collection?: string | null;
  before?: string | null;
  expired?: boolean;
  /** leave no byte of them in the file, which is written anew */
  erase?: boolean;
}

/** How many there were. `elsewhere` is there where collections are too large for the server: whether the shared database was searched, too, or was unreachable, and what the server holds itself is all. */
export interface Forgotten {
  forgotten: number;
  elsewhere?: "late" | "meaning" | "searched" | "unreachable";
}

/** The process answers. */
export interface Health {
  status: string;
  version: string;
}

/** Memories that belong together; its weight moves with ratings. */
export interface Hyperedge {
  id: number;
  members: number[];
  kind: string;
  weight: number;
  metadata: Record<string, unknown>;
}

/** Memories that belong together, all with all. */
export interface HyperedgeBody {
  members: number[];
  kind?: string;
  weight?: number;
  metadata?: Record<string, unknown>;
}

/** Its id. */
export interface HyperedgeMade {
  id: number;
}

/** How a collection is searched. */
export interface IndexStats {
  kind: string;
  size: number;
  recall: number;
}

/** One run of a job. */
export interface JobRun {
  name: string;
  /** what it did, "" when it was stopped or failed. */
  outcome: string;
  seconds: number;
  /** it outlasted its budget. */
  stopped: boolean;
  /** when it ended, in seconds since 1970. */
  at: number;
  /** why it failed, "" where it did not. */
  error: string;
}

/** A kind of background work; times are in seconds, and since 1970. The next run comes no sooner than `next`. `last` is the last whole run, `failure` the last failure since. */
export interface JobStatus {
  name: string;
  interval: number;
  due: boolean;
  next: number;
  last: JobRun | null;
  failure: JobRun | null;
}

/** How many seconds each job may take. */
export interface JobsBody {
  budget?: number;
}

/** A key of the caller's space: role, the models it may use (all when empty), dollars a day, requests a second. `adds` is what its chats get beside being passed on: "memory", "persona", "write-back". */
export interface KeyBody {
  name: string;
  role?: string;
  models?: string[];
  budget?: number | null;
  rate?: number | null;
  /** whose memories it reads beside shared ones */
  agent?: string;
  adds?: string[] | null;
}

/** The key itself: it is shown this once. */
export interface KeyMade {
  name: string;
  key: string;
}

/** A key without its secret. */
export interface KeyRow {
  name: string;
  role: string;
  space: string;
  models: string[];
  budget: number | null;
  rate: number | null;
  agent: string;
  adds: string[] | null;
}

/** Of the caller's space. */
export interface KeyRows {
  keys: KeyRow[];
}

/** Of one key: requests, those that were refused or failed, answers with tokens and US dollars; today's budget. */
export interface KeyUsage {
  key: string;
  requests: number;
  refused: number;
  answers: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: number;
  spent_today: number;
  budget: number | null;
  left_today: number | null;
}

/** Feedback was taken in. `examples` says how many each question of a decision has now. */
export interface Learnt {
  learnt: boolean;
  request: Applied | null;
  examples: Record<string, number> | null;
}

/** One thing to change about the agents; `prompts` are the examples that collide. */
export interface LintFinding {
  kind: string;
  agents: string[];
  message: string;
  fix: string;
  prompts: string[];
}

/** Their ids. */
export interface Memories {
  ids: number[];
}

/** Texts to remember. */
export interface MemoryAdd {
  memories: MemoryBody[];
  /** each follows the one before it */
  chain?: boolean;
}

/** A text to remember. */
export interface MemoryBody {
  text: string;
  kind?: string;
  collection?: string;
  metadata?: Record<string, unknown>;
  quality?: number;
  observed_at?: string | null;
  valid_from?: string | null;
  valid_to?: string | null;
  expires?: string | null;
  speaker?: string | null;
  agent_id?: string | null;
}

/** A typed edge. */
export interface MemoryEdge {
  source: number;
  target: number;
  kind: string;
  weight: number;
}

/** What lies around some memories; among the edges a hyperedge is a star around one of its members. */
export interface MemoryGraph {
  nodes: MemoryNode[];
  edges: MemoryEdge[];
  hyperedges: Hyperedge[];
}

/** A memory, its score, what that is the sum of where words were searched, and its passage where one was wanted. */
export interface MemoryHit {
  id: number;
  text: string;
  score: number;
  kind: string;
  collection: string;
  metadata: Record<string, unknown>;
  quality: number;
  hops: number;
  why: MemoryWhy | null;
  /** when it began to hold, in seconds since 1970 */
  since: number;
  /** when it ended; null where it has not */
  until: number | null;
  /** how often it was said */
  said: number;
  passage: MemoryHit[];
}

/** The best ones first, the chance that an answer is among them, and their sessions where these are sought. `elsewhere` is there where the collection is too large for the server: whether the shared database was searched for the rest of it (by "meaning" alone where words are not indexed), or was late or unreachable, and what the server holds itself is all. */
export interface MemoryHits {
  memories: MemoryHit[];
  answerable: number;
  sessions: MemorySession[];
  elsewhere?: "late" | "meaning" | "searched" | "unreachable";
}

/** A memory, and how many edges away it is. */
export interface MemoryNode {
  id: number;
  text: string;
  kind: string;
  collection: string;
  metadata: Record<string, unknown>;
  quality: number;
  hops: number;
}

/** A memory, and from when until when it holds; times are in seconds since 1970, `until` null for no end. */
export interface MemoryRow {
  id: number;
  text: string;
  kind: string;
  collection: string;
  metadata: Record<string, unknown>;
  quality: number;
  created: number;
  accessed: number;
  /** how often a search returned it */
  accesses: number;
  archived: boolean;
  since: number;
  until: number | null;
  closed: ClosedMemory | null;
  /** how often it was said */
  said: number;
}

/** Memories, the newest first. */
export interface MemoryRows {
  memories: MemoryRow[];
}

/** What to look for. */
export interface MemorySearch {
  query: string;
  k?: number;
  collection?: string;
  filter?: Record<string, unknown> | null;
  hops?: number;
  search?: "hybrid" | "vectors" | "words" | null;
  at?: string | null;
  recency?: number | null;
  agent_id?: string | null;
  window?: number;
  /** k is of sessions, by `session` among the metadata */
  sessions?: boolean;
}

/** A conversation, and which of the hits are of it. */
export interface MemorySession {
  session: string;
  score: number;
  memories: number[];
}

/** How many memories there are, how they are searched, and how their vectors are stored. */
export interface MemoryStats {
  space: string;
  collections: Record<string, number>;
  tiers: Record<string, Record<string, TierStats>>;
  indexes: Record<string, IndexStats>;
  edges: number;
  vectors: number;
  vector_bytes: number;
  format: string;
  dim: number;
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

/** One turn of a conversation; `role` is one of ROLES. */
export interface Message {
  role: string;
  content: string;
}

/** What came of a choice. */
export interface OutcomeBody {
  choice_id: string;
  success?: boolean;
  quality?: number | null;
  cost?: number | null;
  latency?: number | null;
}

/** A query to take apart. */
export interface PartBody {
  query: string;
}

/** A text that an answer may be in. */
export interface Passage {
  text: string;
  id: number | string;
  /** cosine to the question. */
  score: number;
  /** where it comes from, for people; "" leaves it to the id. */
  source: string;
  /** what `memory.found.answer_odds` says of all that it was found with; null where nobody asked. */
  odds: number | null;
}

/** A way of handling a kind of task that has worked. */
export interface PatternRow {
  id: number;
  pattern_type: string;
  route: string;
  cluster_size: number;
  avg_quality: number;
  access_count: number;
  created_at: number;
  last_accessed: number;
  contexts: string[];
  actions: string[];
  metadata: Record<string, unknown>;
}

/** What was learnt of many tasks. */
export interface Patterns {
  patterns: PatternRow[];
}

/** A sub-query: places of those whose answers it needs, and who would take it. */
export interface PlanPart {
  text: string;
  after: number[];
  decision: Decision;
}

/** The sub-queries of a query; `split` is false for one that is best answered whole, and is its only part. */
export interface PlanRow {
  query: string;
  join: "compare" | "parts";
  split: boolean;
  parts: PlanPart[];
}

/** An agent file that was skipped, and how to mend it. */
export interface ProblemRow {
  field: string;
  message: string;
  fix: string;
}

/** A question, and what the caller insists on. */
export interface QueryBody {
  query: string;
  session_id?: string | null;
  max_latency_ms?: number | null;
  /** US dollars; no tier that costs more is asked */
  max_cost?: number | null;
  max_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  force_model?: string | null;
  force_context?: number | null;
  seed?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  repeat_penalty?: number | null;
  /** also say which memories it draws on, as `attention` */
  explain?: boolean;
  /** take it apart, and answer its parts first: see RlmAnswer */
  deep?: boolean;
  agent_id?: string | null;
  /** with deep: events planned, answered, delta, answer as they come */
  stream?: boolean;
  /** with deep: a text to answer from, of any length */
  context?: string | null;
  /** with deep: how far it goes */
  settings?: DeepSettings | null;
}

/** Decisions that feedback spoke of; `ece` is the expected calibration error. */
export interface Reliability {
  decisions: number;
  right: number;
  ece: number | null;
  bins: ReliabilityBin[];
}

/** Decisions of about the same confidence: how many, its mean, and the share that was right. */
export interface ReliabilityBin {
  from: number;
  to: number;
  count: number;
  confidence: number;
  right: number;
}

/** Whether it was closed before. */
export interface Reopened {
  reopened: boolean;
}

/** The answer to one query (FEATURES.md O2). */
export interface Response {
  /** what feedback about it refers to. */
  request_id: string;
  text: string;
  /** of the answer, 0 to 1: its backend's own (of the extractive one, P(the sources hold the answer); of a model, the mean probability of its tokens); null where a backend tells none. */
  confidence: number | null;
  /** of `decision`, whose confidence says how sure that is. */
  agent: string;
  /** of the backend that answered. */
  tier: Tier;
  /** what of memory was given to the backend, best first. */
  sources: Source[];
  routing: RoutingInfo;
  usage: Usage;
  /** US dollars. */
  cost: number;
  /** microseconds of each of STAGES, and "total", which is their sum. */
  latency: Record<string, number>;
  /** where the question was routed. Its agent has spoken only where `decision.action` is not "escalate". */
  decision: Decision;
  session_id: string | null;
  /** as in `inference.backend.Completion`. */
  finish_reason: string;
  /** what of the question's surroundings the backend did not get, and who had to stand in for whom. */
  warnings: string[];
  /** how strong a model was asked, who decided that, why, and what it was expected to cost and take. */
  choice: Choice | null;
  /** what to do about a route that is not sure: confirm its agent, or know that none has spoken; "" where `decision.action` is "use". */
  advice: string;
  /** which memories the query draws on, along which edges, where `Constraints.explain` asks for it and something was found. >>> _ = llm.memory.add("Staging is reset at noon.") >>> llm.query("when is staging reset?").text 'Staging is reset at noon. ...' */
  attention: AttentionSummary | null;
}

/** The answer to a query. */
export interface RlmAnswer {
  query: string;
  /** with [n] for source n. */
  text: string;
  /** 0 to 1: the share of the sub-queries that are answered, times how far the sources bear the answer out; 0 where there are none to bear it out. */
  quality: number;
  /** 0 to 1, how far the sources bear it out, or what was read where none is cited; null without either. */
  grounding: number | null;
  /** by their number, from 1. */
  sources: Passage[];
  /** the sub-queries and their answers, in order. */
  findings: Finding[];
  unanswered: string[];
  usage: Usage;
  /** of the deepest sub-query. */
  depth: number;
  /** of the backend. */
  calls: number;
  /** times that the answer was written again. */
  reflections: number;
  cached: boolean;
  /** how strong a model was asked; null where the caller named the backend, or no model writes. */
  choice: Choice | null;
}

/** A task to be routed. */
export interface RouteBody {
  text: string;
  /** alternatives to name */
  top?: number;
  /** whether an unsure decision names the agents that share the task */
  team?: boolean;
}

/** Where a query went, and how it was sampled. */
export interface RoutingInfo {
  /** what the backend calls it. */
  model: string;
  /** tokens that prompt and answer could have together. */
  context_size: number;
  /** as asked for; null where that was left to the backend. */
  temperature: number | null;
  /** as asked for; null where that was left to the backend. */
  top_p: number | null;
  backend: string;
  /** whether the model router chose; else these are the configured values. */
  learnt: boolean;
}

/** All together, and by day, agent and key; `large` is the model with which it is compared. */
export interface SavingsReport {
  days: number;
  large: string;
  total: Sums;
  by_day: Sums[];
  by_agent: Sums[];
  by_key: Sums[];
}

/** A prompt, and what its LLM may cost, take and has to reach. */
export interface SelectBody {
  prompt: string;
  max_cost?: number | null;
  max_latency?: number | null;
  min_quality?: number | null;
}

/** A conversation as it stands. */
export interface Session {
  id: string;
  /** what was asked and answered, oldest first. */
  history: Message[];
  metadata: Record<string, unknown>;
  /** seconds since 1970. >>> session = llm.new_session({"user": "ada"}) >>> _ = llm.query("when is staging reset?", session=session) >>> len(llm.session(session).history) 2 */
  created: number;
  /** seconds since 1970. >>> session = llm.new_session({"user": "ada"}) >>> _ = llm.query("when is staging reset?", session=session) >>> len(llm.session(session).history) 2 */
  accessed: number;
}

/** What to note about a session, and what was said before: each question with its answer. */
export interface SessionBody {
  metadata?: Record<string, unknown>;
  history?: Turn[];
}

/** A session that can be named in queries. */
export interface SessionMade {
  session_id: string;
}

/** How a space stands among nodes: changes sent and applied since the start, and waiting; seconds since then. */
export interface SharedStats {
  sharing: "deltas" | "texts" | "vectors";
  up: boolean;
  problem: string;
  sent: number;
  applied: number;
  waiting: number;
  waiting_seconds: number;
  lag_seconds: number;
}

/** A memory that an answer draws on. */
export interface Source {
  id: number;
  text: string;
  /** cosine to the query, or what learnt attention made of it. */
  score: number;
  kind: string;
  metadata: Record<string, unknown>;
  /** edges away from the nearest direct hit. */
  hops: number;
  /** what was said before and after it with itself, as a model reads it; "" where nothing was. >>> _ = llm.memory.add("Staging is reset at noon.") >>> llm.query("when is staging reset?").sources[0].text 'Staging is reset at noon.' */
  passage: string;
}

/** What it holds and has done, in more fields than these. `state` is told to administrators. */
export interface Stats {
  agents: number;
  encoder: string;
  set_aside: Record<string, number>;
  failures: Record<string, number>;
  jobs: JobStatus[];
  own_agents: number;
  write_back: boolean;
  memory_tiers?: Record<string, Record<string, TierStats>>;
  shared?: SharedStats;
  state?: string;
}

/** Answers, tokens and US dollars: spent, at the largest model's prices, and the difference; `name` of the group. */
export interface Sums {
  name: string;
  answers: number;
  prompt_tokens: number;
  completion_tokens: number;
  cost: number;
  large_cost: number;
  saved: number;
}

/** The agents that take a compound task together, in working order. >>> [one.role for one in llm.route_complex("Add authentication to the API").members] ['api', 'auth'] */
export interface Team {
  members: TeamMember[];
  tier: Tier;
}

/** A compound task. */
export interface TeamBody {
  text: string;
}

/** One part of a compound task and the agent that takes it. >>> llm.route_complex("Add authentication to the API").members[0].agent 'backend-dev' */
export interface TeamMember {
  agent: string;
  role: string;
  task: string;
  confidence: number;
}

/** How strong a model a task needs. >>> llm.route("write unit tests for the parser").tier <Tier.SMALL: 2> */
export type Tier = 1 | 2 | 3;

/** Memories of a collection whose vectors are held in one way, and their bytes in memory. */
export interface TierStats {
  count: number;
  bytes: number;
}

/** What superseded a memory and what it superseded, the oldest first. */
export interface Timeline {
  memories: MemoryRow[];
}

/** What Anthropic's API takes as the content of a tool search's `tool_result`. */
export interface ToolReference {
  tool_name: string;
  type: string;
}

/** A tool that a search found, for other programs. */
export interface ToolRow {
  name: string;
  description: string;
  score: number;
}

/** A task, and the tools to search: those of the catalog where there are none. */
export interface ToolsBody {
  task: string;
  /** how many to find */
  k?: number;
  /** definitions as OpenAI, Anthropic or MCP write them */
  tools?: Record<string, unknown>[] | null;
  /** names that stay among `tools` whatever the task */
  keep?: string[];
}

/** What a search found, the best first. */
export interface ToolsFound {
  hits: ToolRow[];
  /** the same for Anthropic's API. */
  tool_references: ToolReference[];
  /** the definitions of the request that were found or are to stay, as they came and in their order; null where the catalog was searched. */
  tools: Record<string, unknown>[] | null;
  /** about how many all of the request's definitions take, and how many these. */
  tokens: [number, number] | null;
}

/** Something that was said. */
export interface Turn {
  role: "assistant" | "user";
  content: string;
}

/** Tokens read and written; `estimated` when the backend did not say and ruvllm counted bytes. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  estimated: boolean;
  /** of those read, which the backend had read before. */
  cached_tokens: number;
}

/** By key, in the order of the file of keys; `day_ends` seconds from now budgets begin anew. */
export interface UsageReport {
  days: number;
  day_ends: number;
  keys: KeyUsage[];
}

/** The server's calls: method and path below /v1/. */
export interface Calls {
  "GET memory": { body: undefined; answer: MemoryRows };
  "POST memory/edges": { body: EdgeBody; answer: null };
  "GET memory/stats": { body: undefined; answer: MemoryStats };
  "POST query/plan": { body: PartBody; answer: PlanRow };
  "GET feedback": { body: undefined; answer: FeedbackEntries };
  "DELETE feedback/{id}": { body: undefined; answer: null };
  "POST patterns": { body: undefined; answer: Patterns };
  "GET reliability": { body: undefined; answer: Reliability };
  "GET agents/lint": { body: undefined; answer: LintFinding[] };
  "POST jobs": { body: JobsBody; answer: JobRun[] };
  "PUT backends": { body: BackendsBody; answer: Record<string, unknown> };
  "GET backends": { body: undefined; answer: Record<string, unknown> };
  "POST backends/select": { body: SelectBody; answer: BackendChoice };
  "POST backends/outcomes": { body: OutcomeBody; answer: Record<string, unknown> };
  "POST route": { body: RouteBody; answer: Decision };
  "POST route/complex": { body: TeamBody; answer: Team };
  "POST query": { body: QueryBody; answer: Response | RlmAnswer };
  "POST feedback": { body: FeedbackBody; answer: Learnt };
  "POST sessions": { body: SessionBody; answer: SessionMade };
  "GET sessions/{id}": { body: undefined; answer: Session };
  "DELETE sessions/{id}": { body: undefined; answer: null };
  "GET agents": { body: undefined; answer: Agents };
  "PUT agents": { body: AgentsChange; answer: AgentsChanged };
  "DELETE agents": { body: undefined; answer: AgentsChanged };
  "DELETE agents/{name}": { body: undefined; answer: AgentsChanged };
  "POST memory": { body: MemoryAdd; answer: Memories };
  "POST memory/search": { body: MemorySearch; answer: MemoryHits };
  "GET memory/graph": { body: undefined; answer: MemoryGraph };
  "GET memory/{id}/timeline": { body: undefined; answer: Timeline };
  "POST memory/{id}/reopen": { body: undefined; answer: Reopened };
  "DELETE memory/{id}": { body: undefined; answer: null };
  "POST memory/forget": { body: ForgetBody; answer: Forgotten };
  "POST memory/hyperedges": { body: HyperedgeBody; answer: HyperedgeMade };
  "DELETE memory/hyperedges/{id}": { body: undefined; answer: null };
  "GET savings": { body: undefined; answer: SavingsReport };
  "GET patterns": { body: undefined; answer: Patterns };
  "GET state": { body: undefined; answer: Uint8Array };
  "PUT state": { body: Uint8Array; answer: null };
  "GET stats": { body: undefined; answer: Stats };
  "GET health": { body: undefined; answer: Health };
  "POST tools/search": { body: ToolsBody; answer: ToolsFound };
  "POST federated/updates": { body: Uint8Array; answer: Accepted };
  "GET federated/model": { body: undefined; answer: Uint8Array };
  "GET federated": { body: undefined; answer: FederatedStats };
  "GET usage": { body: undefined; answer: UsageReport };
  "GET keys": { body: undefined; answer: KeyRows };
  "POST keys": { body: KeyBody; answer: KeyMade };
  "DELETE keys/{name}": { body: undefined; answer: null };
  "POST keys/{name}/rotate": { body: undefined; answer: KeyMade };
  "GET audit": { body: undefined; answer: AuditRows };
  "DELETE state": { body: undefined; answer: null };
}

/** Methods of the core that a page can call, with Python's keyword arguments. */
export type Call =
  "add_agents" | "add_memory" | "agents" | "backend_stats" | "bind_memories" | "decide" | "decompose" | "deep_event"
  | "embed" | "end_deep" | "end_session" | "feedback" | "feedback_decision" | "feedback_list" | "forget_memory"
  | "learn_patterns" | "link_memory" | "lint" | "memories" | "memory_graph" | "memory_stats" | "memory_timeline"
  | "new_session" | "patterns" | "pull" | "push" | "query" | "query_deep" | "rate" | "record_outcome" | "reliability"
  | "reopen_memory" | "reset_agents" | "review" | "route" | "route_complex" | "run_jobs" | "save_backends"
  | "search_memory" | "search_tools" | "select" | "session" | "set_backends" | "stats" | "unbind_memories"
  | "undo_feedback" | "undo_pull" | "upgrade";
