/** What a page and the service worker of a built folder say to each other. */

/** Why a version could not be kept. */
export type OfflineReason = "space" | "network" | "changing" | "damaged" | "unsupported";

/** How one version's fill goes. */
export type FillNews =
  | { kind: "filling"; loaded: number; total: number }
  | { kind: "kept" }
  | { kind: "failed"; reason: OfflineReason; message: string; fix: string }
  /** It may not take over while so many other tabs use the version before. */
  | { kind: "busy"; tabs: number };

/** To the pages. */
export interface FromServiceWorker {
  ruvllm: FillNews;
}

/** To the service worker: see that all files are here; or take the place of the version before. */
export interface ToServiceWorker {
  ruvllm: "check" | "take over";
}
