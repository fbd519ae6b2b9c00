/** What a page says to a language model, and what it hears. */

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** How to answer; what is left out is as in Python (`ruvllm.inference.backend.Params`). */
export interface ChatOptions {
  /** Hears each piece of the answer as it is written. */
  onToken?: (text: string) => void;
  /** Ends the answer: what was written so far is returned, its `finish_reason` being "cancelled". */
  signal?: AbortSignal;
  /** Of the answer, at most; 512. */
  maxTokens?: number;
  /** 0 takes the likeliest token each time; 0.7. */
  temperature?: number;
  /** Only the so many likeliest; 50, 0 for all. */
  topK?: number;
  /** Only the likeliest of this probability together; 0.9. */
  topP?: number;
  /** Only those of at least this share of the likeliest one's probability; 0. */
  minP?: number;
  /** Above 1 makes tokens that the answer has already less likely; 1. */
  repeatPenalty?: number;
  /** Texts that end the answer and are left out of it. */
  stop?: string[];
  /** The same seed, the same answer; of a float32 model the same as in CPython, too. */
  seed?: number;
}

export interface ChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
}

/** An answer. */
export interface ChatAnswer {
  text: string;
  finish_reason: "stop" | "length" | "cancelled";
  /** null when it was cancelled. */
  usage: ChatUsage | null;
  /** The mean probability of its tokens, 0 to 1. */
  confidence: number | null;
  /** Tokens of the prompt that were still known from an earlier turn. */
  reused_tokens: number;
  /** Milliseconds from the question to the first token. */
  first_token_ms: number;
  /** After the first one; 0 for less than two tokens. */
  tokens_per_second: number;
}

/** "auto" is WebGPU where there is one, else WebAssembly. */
export type Device = "auto" | "webgpu" | "wasm";

/** How far loading has come: first bytes, then Python and the graph, then it answers. */
export interface ModelProgress {
  stage: "download" | "start" | "ready";
  /** Bytes so far, those that were kept from before included. */
  loaded: number;
  total: number;
  /** What is being fetched. */
  file: string;
}

/** What `LocalModel.load` takes beside the model. */
export interface ModelOptions {
  /**
   * The built folder; by default what `<meta name="ruvllm-base">` says, or else where this module was loaded from.
   */
  baseURL?: string | URL;
  device?: Device;
  /** Of WebAssembly; by default all cores but one, and two at least, where the page is isolated; one otherwise. */
  threads?: number;
  onProgress?: (progress: ModelProgress) => void;
  /** Ends the loading; what was fetched so far is kept. */
  signal?: AbortSignal;
}

/** A loaded model. */
export interface ModelInfo {
  name: string;
  architecture: string;
  /** Tokens that prompt and answer may have together. */
  context: number;
  vocabulary: number;
  device: "webgpu" | "wasm";
  threads: number;
  /** Of its files. */
  bytes: number;
  /** Whether this browser has kept it for later visits; a picked folder is read anew each time. */
  kept: boolean;
  /** Whether the browser has promised not to clear it away by itself. */
  persisted: boolean;
  /** What this site may keep and keeps, in bytes; null where the browser does not say. */
  quota: number | null;
  usage: number | null;
}
