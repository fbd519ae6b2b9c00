export { RuvLLM } from "./client.js";
export { RuvllmError } from "./errors.js";
export { HttpRouter } from "./http.js";
export { LocalModel } from "./llm/model.js";
export type * from "./llm/types.js";
export { keepOffline, type Offline, type OfflineOptions, type OfflineState } from "./offline.js";
export type * from "./runtime.js";
export type * from "./types.js";
