import { RuvLLM } from "./client.js";
import { opener } from "./open.js";

export { RuvLLM } from "./client.js";
export { RuvllmError } from "./errors.js";
export { HttpRouter } from "./http.js";
export * from "./rlm.js";
export { LocalModel } from "./llm/model.js";
export type * from "./llm/types.js";
export type { OpenOptions } from "./open.js";
export { keepOffline, type Offline, type OfflineOptions, type OfflineState } from "./offline.js";
export type { CacheEntry } from "./kept.js";
export type * from "./runtime.js";
export type * from "./types.js";

/** A router: in this page, or with `endpoint` at an edge server. */
export const openRouter = opener((options) => RuvLLM.load(options));
