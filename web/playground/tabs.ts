/** Four tabs after the ARIA pattern, each with views in it: arrow keys move, the address remembers and opens. */
import { h } from "../src/element/dom.js";
import type { Folded } from "./views/later.js";

export interface Tab {
  id: string;
  title: string;
  /** Its heading and what it is for; none where a view brings its own. */
  lead?: [heading: string, words: string];
  views: Folded[];
}

/** The hash is "#team" or "#team/the%20task": a tab or a view, and a task. */
export function readHash(hash = location.hash): { tab: string; task: string } {
  const [tab = "", ...rest] = hash.replace(/^#/, "").split("/");
  try {
    return { tab, task: decodeURIComponent(rest.join("/")) };
  } catch {
    return { tab, task: "" };
  }
}

interface Shown {
  tab: Tab;
  button: HTMLButtonElement;
  panel: HTMLElement;
  frames: Map<string, HTMLElement>;
}

export class Tabs {
  readonly list = h("div", { class: "tabs", role: "tablist", "aria-label": "Views" });
  readonly #all: Shown[];
  #current: Shown | null = null;

  constructor(tabs: Tab[]) {
    this.#all = tabs.map((tab) => this.#made(tab));
    this.list.addEventListener("keydown", (event) => this.#key(event));
  }

  #made(tab: Tab): Shown {
    const { id, title, lead, views } = tab;
    const controls = { id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => this.show(id) };
    const button = h("button", { type: "button", role: "tab", ...controls }, title);
    const frames = new Map(views.map((view) => [view.id, frame(view, () => this.#current?.tab === tab)]));
    const head = lead && h("div", { class: "lead" }, h("h1", {}, lead[0]), h("p", { class: "promise" }, lead[1]));
    const about = { id: `panel-${id}`, role: "tabpanel", "aria-labelledby": button.id, tabindex: -1, hidden: true };
    this.list.append(button);
    return { tab, button, frames, panel: h("div", about, head, ...frames.values()) };
  }

  /** Shows what the address names, now and whenever that changes. */
  start(): void {
    addEventListener("hashchange", () => this.show(readHash().tab));
    this.show(readHash().tab);
  }

  get panels(): HTMLElement[] {
    return this.#all.map(({ panel }) => panel);
  }

  /** Whether a view can be seen: its tab is shown, and it is not folded. */
  shows(id: string): boolean {
    const found = this.#current?.frames.get(id);
    return found !== undefined && (!(found instanceof HTMLDetailsElement) || found.open);
  }

  /** A tab, or a view in it, which is unfolded; the first tab where there is no such. */
  show(id: string): void {
    const next = this.#all.find(({ tab, frames }) => tab.id === id || frames.has(id)) ?? this.#all[0];
    if (!next) return;
    const { tab, frames } = next;
    const before = this.#current;
    this.#current = next;
    for (const { button, panel } of before === next ? [] : this.#all) {
      const on = panel === next.panel;
      button.setAttribute("aria-selected", String(on));
      button.tabIndex = on ? 0 : -1;
      panel.hidden = !on;
    }
    if (![tab.id, ...frames.keys()].includes(readHash().tab)) history.replaceState(null, "", `#${tab.id}`);
    const wanted = frames.get(id);
    if (wanted instanceof HTMLDetailsElement) {
      wanted.open = true; // which shows it
      wanted.scrollIntoView({ block: "start" });
    }
    if (before !== next) for (const view of tab.views) if (view !== undefined && this.shows(view.id)) view.onShow?.();
  }

  #key(event: KeyboardEvent): void {
    const at = this.#all.findIndex((each) => each === this.#current);
    const last = this.#all.length - 1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    const next = to === undefined ? undefined : this.#all[(to + this.#all.length) % this.#all.length];
    if (!next) return;
    event.preventDefault();
    history.replaceState(null, "", `#${next.tab.id}`);
    this.show(next.tab.id);
    next.button.focus();
  }
}

/** A view with words about it is folded until somebody wants it. */
function frame({ id, title, about, panel, onShow }: Folded, shown: () => boolean): HTMLElement {
  if (about === undefined) return h("div", { id: `view-${id}`, class: "view" }, panel);
  const summary = h("summary", {}, h("h2", {}, title), typeof about === "string" ? h("span", { class: "note" }, about) : about);
  const out = h("details", { id: `view-${id}`, class: "view fold", "aria-label": title }, summary, panel);
  out.addEventListener("toggle", () => {
    if (!out.open || !shown()) return;
    if (readHash().tab !== id) history.replaceState(null, "", `#${id}`); // a reload finds it open
    onShow?.();
  });
  return out;
}
