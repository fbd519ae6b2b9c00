/** `<ruvllm-router>`: a box to type a task into, and the agent that should take it. */
import { Latest } from "./element/latest.js";
import { openRouter } from "./element/source.js";
import { styles } from "./element/styles.js";
import { View } from "./element/view.js";
import type { Agent, Decision, Router } from "./types.js";

const DEBOUNCE = 180; // ms of quiet before a live route
const OBSERVED = ["agents", "endpoint", "base-url", "placeholder", "label"] as const;

/** A failure is in the element already; nobody else waits for it. */
const shown = (): void => undefined;

/** In Node there is no HTMLElement; importing this module there does nothing. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

export interface FeedbackDetail {
  text: string;
  agent: string;
}

/**
 * Attributes: `agents`, `endpoint`, `base-url`, `placeholder`, `label`, `live`, `eager`, `theme`.
 * Events, bubbling and composed: `route` (detail: Decision), `feedback` (detail: FeedbackDetail),
 * `problem` (detail: Error).
 */
export class RuvllmRouterElement extends Base {
  static readonly observedAttributes: readonly string[] = OBSERVED;

  #agents: readonly Agent[] | null = null;
  #given: Router | null = null;
  #opened: Promise<Router> | null = null;
  #decision: Decision | null = null;
  #failure: unknown = null;
  readonly #latest = new Latest();
  #timer: ReturnType<typeof setTimeout> | undefined;

  readonly #view = new View();

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [styles()];
    root.append(this.#view.box);
    this.#view.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.route().catch(shown);
    });
    this.#view.input.addEventListener("input", () => this.#typed());
    this.#view.input.addEventListener("focus", () => this.#warm());
  }

  connectedCallback(): void {
    for (const name of ["agents", "router", "value"] as const) this.#upgrade(name);
    this.#write();
    if (this.hasAttribute("eager")) this.#warm();
  }

  disconnectedCallback(): void {
    clearTimeout(this.#timer);
    queueMicrotask(() => {
      if (!this.isConnected) this.#shut(); // gone, not moved
    });
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after) return;
    if (name === "placeholder" || name === "label") this.#write();
    else this.#shut();
  }

  /** The task in the box. */
  get value(): string {
    return this.#view.input.value;
  }
  set value(text: string) {
    this.#view.input.value = text;
  }

  /** The last decision. */
  get decision(): Decision | null {
    return this.#decision;
  }

  /** Agents to route among, or the address of a JSON file (that is the attribute). */
  get agents(): readonly Agent[] | string | null {
    return this.#agents ?? this.getAttribute("agents");
  }
  set agents(agents: readonly Agent[] | string | null) {
    this.#agents = typeof agents === "string" ? null : agents;
    if (typeof agents === "string") this.setAttribute("agents", agents);
    this.#shut();
  }

  /** "local", or the address of an edge server. */
  get endpoint(): string {
    return this.getAttribute("endpoint") || "local";
  }
  set endpoint(endpoint: string) {
    this.setAttribute("endpoint", endpoint);
  }

  /** Routes while typing. */
  get live(): boolean {
    return this.hasAttribute("live");
  }
  set live(live: boolean) {
    this.toggleAttribute("live", live);
  }

  /** A router of the page's own; the element will not close it. */
  get router(): Router | null {
    return this.#given;
  }
  set router(router: Router | null) {
    this.#shut();
    this.#given = router;
  }

  /**
   * Routes `text`, or what is in the box: one at a time, while the newest of the others waits. Null for an empty box,
   * and for a call that a newer one has overtaken.
   */
  async route(text?: string): Promise<Decision | null> {
    clearTimeout(this.#timer);
    if (text !== undefined) this.value = text;
    const task = this.value.trim();
    if (!task) {
      this.#latest.drop();
      this.#clear();
      return null;
    }
    this.#view.busy(true);
    try {
      const decision = await this.#latest.run(async () => (await this.#open()).route(task));
      if (!decision) return null;
      this.#view.busy(false);
      this.#decision = decision;
      this.#show(task, decision);
      this.#emit("route", decision);
      return decision;
    } catch (error) {
      this.#view.busy(false);
      this.#fail(error);
      throw error;
    }
  }

  /** This text belongs to this agent. */
  async feedback(text: string, agent: string): Promise<void> {
    const router = await this.#open();
    await router.feedback(text, agent);
    this.#emit("feedback", { text, agent } satisfies FeedbackDetail);
  }

  /** A property set before the element was defined hides the accessor: set it again. */
  #upgrade(name: "agents" | "router" | "value"): void {
    if (!Object.hasOwn(this, name)) return;
    const value: unknown = this[name];
    delete (this as Record<string, unknown>)[name];
    Object.assign(this, { [name]: value });
  }

  #typed(): void {
    if (!this.live) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.route().catch(shown), DEBOUNCE);
  }

  /** Begins to load before it is needed. */
  #warm(): void {
    void this.#open().catch((error: unknown) => this.#fail(error));
  }

  #open(): Promise<Router> {
    if (this.#given) return Promise.resolve(this.#given);
    if (this.#opened) return this.#opened;
    const { endpoint, agents } = this;
    const baseURL = this.getAttribute("base-url");
    const opening: Promise<Router> = openRouter({
      endpoint,
      baseURL,
      agents,
      onProgress: (progress) => {
        if (this.#opened === opening) this.#view.progress(progress);
      },
    }).then(
      (router) => {
        if (this.#opened === opening) this.#view.told("");
        return router;
      },
      (error: unknown) => {
        if (this.#opened === opening) this.#opened = null; // the next try starts afresh
        throw error;
      },
    );
    this.#opened = opening;
    if (endpoint === "local") this.#view.told("Loading…");
    return opening;
  }

  #shut(): void {
    const opened = this.#opened;
    this.#opened = null;
    this.#latest.drop();
    this.#clear();
    void opened?.then((router) => router.close()).catch(() => undefined);
  }

  #write(): void {
    const label = this.getAttribute("label") ?? "Which agent should take this task?";
    this.#view.words(label, this.getAttribute("placeholder") ?? "Describe a task, press Enter");
  }

  #show(task: string, decision: Decision): void {
    const agents = async () => (await this.#open()).agents();
    this.#view.show({ decision, agents, send: (agent) => this.feedback(task, agent) });
  }

  #fail(error: unknown): void {
    if (error === this.#failure) return; // the same one, met on two ways
    this.#failure = error;
    this.#decision = null;
    this.#view.fail(error);
    this.#emit("problem", error);
  }

  #clear(): void {
    this.#decision = null;
    this.#view.clear();
  }

  #emit(type: string, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}

/** Its events by name, for `addEventListener`. */
export interface RuvllmRouterEvents {
  route: CustomEvent<Decision>;
  feedback: CustomEvent<FeedbackDetail>;
  problem: CustomEvent<Error>;
}

export interface RuvllmRouterElement {
  addEventListener<K extends keyof RuvllmRouterEvents>(
    type: K, listener: (event: RuvllmRouterEvents[K]) => void, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Its attributes, for JSX: `declare module "react" { namespace JSX { interface IntrinsicElements extends … } } }`. */
export interface RuvllmRouterElements {
  "ruvllm-router": {
    agents?: string; endpoint?: string; "base-url"?: string; placeholder?: string; label?: string; live?: boolean;
    eager?: boolean; theme?: "auto" | "light" | "dark"; class?: string; id?: string;
  };
}

declare global {
  interface HTMLElementTagNameMap {
    "ruvllm-router": RuvllmRouterElement;
  }
}

if (globalThis.customElements && !customElements.get("ruvllm-router")) {
  customElements.define("ruvllm-router", RuvllmRouterElement);
}
