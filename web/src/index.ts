export { RuvLLM } from "./client.js";
export { RuvllmError } from "./errors.js";
export { HttpRouter } from "./http.js";
export type * from "./types.js";
