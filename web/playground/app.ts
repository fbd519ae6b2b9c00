/** What the page knows, and who wants to hear when it changes. */
import { RuvLLM } from "../src/client.js";
import { Latest } from "../src/element/latest.js";
import type { Added, Agent, AgentFile, Decision, LoadProgress, Router, Stage } from "../src/types.js";

/** A decision with the task it answers and the milliseconds to the worker and back. */
export interface Routed {
  task: string;
  decision: Decision;
  trip: number;
}

export interface Taught {
  text: string;
  agent: string;
}

interface Events {
  task: string;
  routed: Routed | null;
  busy: boolean;
  progress: LoadProgress;
  ready: Router;
  agents: Agent[];
  taught: Taught;
  state: undefined; // what was learnt has been replaced
  problem: Error | null;
  file: File; // what was learnt elsewhere, dropped on the page
}

type Listener<K extends keyof Events> = (value: Events[K]) => void;

/** One per page. */
export class App {
  task = "";
  routed: Routed | null = null;
  router: RuvLLM | null = null;
  agents: Agent[] = [];
  /** How many agents were added to the built-in ones, on this visit or an earlier one. */
  own = 0;
  readonly taught: Taught[] = [];
  readonly progress = new Map<Stage, LoadProgress>();
  readonly baseURL: URL;
  #opening: Promise<RuvLLM> | null = null;
  #listeners = new Map<keyof Events, Set<(value: never) => void>>();
  readonly #latest = new Latest();

  constructor(baseURL: URL) {
    this.baseURL = baseURL;
  }

  on<K extends keyof Events>(type: K, listener: Listener<K>): void {
    const all = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, all.add(listener));
  }

  emit<K extends keyof Events>(type: K, value: Events[K]): void {
    this.#listeners.get(type)?.forEach((listener) => (listener as Listener<K>)(value));
  }

  /** The router, loaded once; a failed load can be tried again. */
  open(): Promise<RuvLLM> {
    this.#opening ??= this.#load().catch((error: unknown) => {
      this.#opening = null;
      this.emit("problem", asError(error));
      throw error;
    });
    return this.#opening;
  }

  async #load(): Promise<RuvLLM> {
    this.progress.clear();
    const router = await RuvLLM.load({
      baseURL: this.baseURL,
      offline: true,
      onProgress: (progress) => {
        this.progress.set(progress.stage, progress);
        this.emit("progress", progress);
      },
    });
    this.router = router;
    this.emit("problem", null);
    this.emit("ready", router);
    await this.refreshAgents();
    return router;
  }

  async refreshAgents(): Promise<void> {
    const router = this.router ?? (await this.open());
    this.agents = await router.agents();
    this.own = (await router.stats()).own_agents ?? 0;
    this.emit("agents", this.agents);
  }

  agent(name: string): Agent | undefined {
    return this.agents.find((agent) => agent.name === name);
  }

  /** Changes the task without routing it. */
  say(task: string): void {
    if (task === this.task) return;
    this.task = task;
    this.emit("task", task);
  }

  /** Routes the task, one at a time; a newer call overtakes an older one. */
  async route(task = this.task): Promise<Routed | null> {
    this.say(task);
    const text = task.trim();
    if (!text) {
      this.#latest.drop();
      this.routed = null;
      this.emit("busy", false);
      this.emit("routed", null);
      return null;
    }
    this.emit("busy", true);
    try {
      const routed = await this.#latest.run(async () => {
        const router = await this.open();
        const began = performance.now();
        const decision = await router.route(text, { top: 4 });
        return { task: text, decision, trip: performance.now() - began };
      });
      if (!routed) return null;
      this.routed = routed;
      this.emit("problem", null);
      this.emit("routed", routed);
    } catch (error) {
      this.emit("problem", asError(error));
      this.emit("busy", false);
      return null;
    }
    this.emit("busy", false);
    return this.routed;
  }

  /** Teaches, then routes again so that the page shows what it changed. */
  async teach(text: string, agent: string): Promise<void> {
    const router = await this.open();
    await router.feedback(text, agent);
    this.taught.unshift({ text, agent });
    this.emit("taught", { text, agent });
    if (text === this.routed?.task) await this.route();
  }

  /** Takes feedback back, by its id; the page shows what that changes. */
  async undo(id: number, text: string): Promise<void> {
    await (await this.open()).undoFeedback(id);
    const at = this.taught.findIndex((lesson) => lesson.text === text);
    if (at >= 0) this.taught.splice(at, 1);
    await this.refreshAgents();
    this.emit("state", undefined);
    if (this.routed) await this.route();
  }

  addFiles(files: AgentFile[]): Promise<Added> {
    return this.#changeAgents((router) => router.addAgents(files));
  }

  /** Back to the built-in agents. */
  resetAgents(): Promise<Added> {
    return this.#changeAgents((router) => router.resetAgents());
  }

  async #changeAgents(change: (router: Router) => Promise<Added>): Promise<Added> {
    const changed = await change(await this.open());
    await this.refreshAgents();
    if (this.routed) await this.route();
    return changed;
  }

  /** Replaces what was learnt. */
  async restore(bytes: Uint8Array): Promise<void> {
    const router = await this.open();
    await router.import(bytes);
    this.taught.length = 0;
    await this.refreshAgents();
    this.emit("state", undefined);
    if (this.routed) await this.route();
  }
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
