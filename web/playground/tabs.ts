/** Tabs after the ARIA pattern: arrow keys move, the address remembers. */
import { h } from "../src/element/dom.js";

export interface Tab {
  id: string;
  title: string;
  panel: HTMLElement;
  /** It has fields of its own: the task box steps aside. */
  own?: boolean;
  /** Called each time the tab is shown. */
  onShow?: () => void;
}

/** The hash is "#team" or "#team/the%20task". */
export function readHash(hash = location.hash): { tab: string; task: string } {
  const [tab = "", ...rest] = hash.replace(/^#/, "").split("/");
  try {
    return { tab, task: decodeURIComponent(rest.join("/")) };
  } catch {
    return { tab, task: "" };
  }
}

export class Tabs {
  readonly list = h("div", { class: "tabs", role: "tablist", "aria-label": "Views" });
  #tabs: Tab[];
  #buttons = new Map<string, HTMLButtonElement>();
  #current = "";
  #whenOwn: (own: boolean) => void = () => undefined;

  constructor(tabs: Tab[]) {
    this.#tabs = tabs;
    for (const { id, title, panel } of tabs) {
      const button = h(
        "button",
        { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => this.show(id) },
        title,
      );
      this.#buttons.set(id, button);
      this.list.append(button);
      panel.id = `panel-${id}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", button.id);
      panel.tabIndex = -1;
    }
    this.list.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Shows the tab of the address, now and whenever that changes. */
  start(): void {
    addEventListener("hashchange", () => this.show(readHash().tab));
    this.show(readHash().tab);
  }

  get panels(): HTMLElement[] {
    return this.#tabs.map((tab) => tab.panel);
  }

  get current(): string {
    return this.#current;
  }

  /** Hear whether the tab shown has fields of its own, whenever another is shown. */
  onOwn(hear: (own: boolean) => void): void {
    this.#whenOwn = hear;
  }

  show(id: string): void {
    const tab = this.#tabs.find((each) => each.id === id) ?? this.#tabs[0];
    if (!tab || tab.id === this.#current) return;
    this.#current = tab.id;
    for (const each of this.#tabs) {
      const on = each === tab;
      const button = this.#buttons.get(each.id);
      button?.setAttribute("aria-selected", String(on));
      if (button) button.tabIndex = on ? 0 : -1;
      each.panel.hidden = !on;
    }
    this.#whenOwn(tab.own ?? false);
    if (readHash().tab !== tab.id) history.replaceState(null, "", `#${tab.id}`);
    // Within the list only: the page itself must not jump.
    const button = this.#buttons.get(tab.id);
    if (button) this.list.scrollLeft = button.offsetLeft - (this.list.clientWidth - button.offsetWidth) / 2;
    tab.onShow?.();
  }

  #key(event: KeyboardEvent): void {
    const last = this.#tabs.length - 1;
    const at = this.#tabs.findIndex((tab) => tab.id === this.#current);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = this.#tabs[(to + this.#tabs.length) % this.#tabs.length];
    if (!next) return;
    this.show(next.id);
    this.#buttons.get(next.id)?.focus();
  }
}
