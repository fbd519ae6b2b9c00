/** Keeps a built folder in this browser, so that a later visit loads with the network off. */
import { builtFolder } from "./websites.js";
import type { FromServiceWorker, OfflineReason, ToServiceWorker } from "./offline/messages.js";

/** How it stands. */
export type OfflineState =
  | { kind: "starting" }
  /** Bytes of this version's files. */
  | { kind: "filling"; loaded: number; total: number }
  /** The next visit loads without a network. */
  | { kind: "ready" }
  /** So does it, and a newer version waits: see `Offline.update`. `tabs` others use the present one. */
  | { kind: "update"; tabs: number }
  /** Nothing is kept; the page goes on with the network. */
  | { kind: "failed"; reason: OfflineReason; message: string; fix: string }
  /** The present version is kept, a newer one could not be. */
  | { kind: "stale"; reason: OfflineReason; message: string; fix: string };

export interface OfflineOptions {
  /** The built folder, on the page's own origin; by default as for `RuvLLM.load`. */
  baseURL?: string | URL;
  onState?: (state: OfflineState) => void;
}

/**
 * Keep the built folder for later visits. Call it once the router has all it needs: what this page has loaded then
 * comes from the browser's own cache, not a second time over the network; in a private window, whose cache takes no
 * large file, too, if it was loaded with `RuvLLM.load({ offline: true })`.
 *
 * A page outside the folder routes without a network too, but has to keep itself: its own address, and the module
 * that it imports this from.
 */
export function keepOffline(options: OfflineOptions = {}): Offline {
  const offline = new Offline(options);
  void offline.start();
  return offline;
}

/** The keeping of one folder, as `keepOffline` began it. */
export class Offline {
  state: OfflineState = { kind: "starting" };
  readonly #script: URL;
  readonly #listen: ((state: OfflineState) => void) | undefined;
  #registration: ServiceWorkerRegistration | undefined;
  /** Whether this page has asked for the version that waits. */
  #asked = false;
  readonly #watched = new WeakSet<ServiceWorker>();

  constructor({ baseURL, onState }: OfflineOptions) {
    this.#script = new URL("sw.js", builtFolder(baseURL, import.meta.url));
    this.#listen = onState;
  }

  /** Register, or say why not. A lost connection is tried again when it is back. */
  async start(): Promise<void> {
    const serviceWorker = globalThis.navigator?.serviceWorker as ServiceWorkerContainer | undefined; // not in Node
    if (!serviceWorker || this.#script.origin !== location.origin) {
      const fix = "serve the folder over https, from the page's own origin";
      return this.#set({ kind: "failed", reason: "unsupported", message: "nothing can be kept here", fix });
    }
    serviceWorker.addEventListener("message", (event: MessageEvent<Partial<FromServiceWorker>>) => this.#hear(event));
    serviceWorker.startMessages();
    addEventListener("online", () => {
      if (this.state.kind === "failed" || this.state.kind === "stale") void this.#register();
    });
    await this.#register();
  }

  /** Take the version that waits, and reload. Not while other tabs use this one: `state` then says how many. */
  update(): void {
    this.#asked = true;
    this.#tell(this.#registration?.waiting, "take over");
  }

  async #register(): Promise<void> {
    try {
      const registration = await navigator.serviceWorker.register(this.#script, { updateViaCache: "none" });
      if (registration !== this.#registration) registration.addEventListener("updatefound", () => this.#watch(registration.installing));
      this.#registration = registration;
      this.#watch(registration.installing);
      this.#watch(registration.waiting);
      if (registration.waiting) this.#set({ kind: "update", tabs: 0 });
      else if (registration.active) this.#tell(registration.active, "check");
      if (registration.active) await registration.update().catch(() => undefined); // offline: later
    } catch (error) {
      const fix = "check the connection, and that sw.js is served with the folder";
      this.#set({ kind: "failed", reason: "network", message: String(error).slice(0, 300), fix });
    }
  }

  /** From installing to its end. */
  #watch(worker: ServiceWorker | null): void {
    if (!worker || this.#watched.has(worker)) return;
    this.#watched.add(worker);
    let whole = worker.state !== "installing";
    worker.addEventListener("statechange", () => {
      const told = this.state.kind === "failed" || this.state.kind === "stale";
      if (worker.state === "redundant" && !whole && !told) {
        this.#fail(worker, "network", "the browser stopped it half way", "reload to go on");
      }
      whole = true;
      if (worker.state === "installed" && this.#registration?.active) this.#set({ kind: "update", tabs: 0 });
      if (worker.state !== "activated") return;
      if (this.#asked) location.reload();
      else this.#set({ kind: "ready" });
    });
  }

  #hear(event: MessageEvent<Partial<FromServiceWorker>>): void {
    const news = event.data?.ruvllm;
    const worker = event.source as ServiceWorker | null;
    if (!news || worker?.scriptURL !== this.#script.href) return;
    const used = isUsed(worker) || !this.#registration?.active; // not one that fills behind the one in use
    if (news.kind === "failed") this.#fail(worker, news.reason, news.message, news.fix);
    else if (news.kind === "busy") this.#set({ kind: "update", tabs: news.tabs });
    else if (news.kind === "filling" && used) this.#set(news);
    else if (news.kind === "kept" && isUsed(worker) && this.state.kind !== "update") this.#set({ kind: "ready" });
  }

  /** Where one fails that was to follow the one in use, that one has its files still. */
  #fail(worker: ServiceWorker, reason: OfflineReason, message: string, fix: string): void {
    const behind = !isUsed(worker) && this.#registration?.active;
    this.#set({ kind: behind ? "stale" : "failed", reason, message, fix });
  }

  #tell(worker: ServiceWorker | null | undefined, ruvllm: ToServiceWorker["ruvllm"]): void {
    worker?.postMessage({ ruvllm } satisfies ToServiceWorker);
  }

  #set(state: OfflineState): void {
    this.state = state;
    this.#listen?.(state);
  }
}

function isUsed(worker: ServiceWorker): boolean {
  return worker.state === "activating" || worker.state === "activated";
}
