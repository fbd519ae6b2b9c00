/** What the page and its workers say to each other. */
import type { Runtime } from "./runtime.js";
import type { SiteIndex } from "./site.js";
import type { LoadOptions, LoadProgress, StateKind } from "./types.js";

/** A result, or the RuvllmError's fields: an error's own fields do not survive a structured clone. */
export type Outcome<T> = { value: T } | { error: { name: string; message: string; field: string; fix: string } };

/** What every worker can be asked, so that its end is noticed. */
export interface Living {
  /** Hold a Web Lock of this name as long as the worker lives; false where there are none. */
  hold(name: string): Promise<Outcome<boolean>>;
  pulse(): void;
}

/** What a worker needs to start. */
export interface WorkerOptions {
  base: string;
  index: SiteIndex;
  agents?: LoadOptions["agents"];
  encoder?: LoadOptions["encoder"];
  device?: LoadOptions["device"];
  dtype?: LoadOptions["dtype"];
  state: StateKind;
  snapshot: boolean;
  offline?: boolean | undefined;
  reviewAfter?: LoadOptions["reviewAfter"];
}

/** What of a router cannot be said by another of its methods. */
export type Method = "ask" | "export" | "import" | "close";
export type Answering = Pick<Runtime, Method>;

/** The worker's side. */
export interface RemoteRouter extends Living {
  start(options: WorkerOptions, onProgress?: (progress: LoadProgress) => void): Promise<Outcome<null>>;
  /** In a worker that does nothing else: keep a snapshot for later visits. */
  keepSnapshot(base: string, index: SiteIndex): Promise<Outcome<boolean>>;
  call(method: Method, args: unknown[]): Promise<Outcome<unknown>>;
}

/** In a worker. */
export const living: Living = {
  hold(name) {
    const { locks } = globalThis.navigator;
    return new Promise((resolve) => {
      const held = (): Promise<never> => {
        resolve({ value: true });
        return new Promise(() => undefined); // for ever: it falls free when this worker is gone, however that came about
      };
      if (locks) locks.request(name, held).catch(() => resolve({ value: false }));
      else resolve({ value: false });
    });
  },
  pulse() {
    // that it is answered says enough
  },
};
