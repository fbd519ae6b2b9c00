/** What the page and its worker say to each other. */
import type { LocalRouter } from "./runtime.js";
import type { SiteIndex } from "./site.js";
import type { LoadOptions, LoadProgress, StateKind } from "./types.js";

/** A result, or the RuvllmError's fields: an error's own fields do not survive a structured clone. */
export type Outcome<T> = { value: T } | { error: { name: string; message: string; field: string; fix: string } };

/** What a worker needs to start. */
export interface WorkerOptions {
  base: string;
  index: SiteIndex;
  agents?: LoadOptions["agents"];
  encoder?: LoadOptions["encoder"];
  state: StateKind;
  snapshot: boolean;
  reviewAfter?: LoadOptions["reviewAfter"];
  /** The name of a Web Lock that the worker holds as long as it lives. */
  life: string;
}

/** The names of a router's methods. */
export type Method = keyof LocalRouter;

/** The worker's side. */
export interface RemoteRouter {
  start(options: WorkerOptions, onProgress?: (progress: LoadProgress) => void): Promise<Outcome<null>>;
  /** In a worker that does nothing else: keep a snapshot for later visits. */
  keepSnapshot(base: string, index: SiteIndex): Promise<Outcome<boolean>>;
  call(method: Method, args: unknown[]): Promise<Outcome<unknown>>;
}
