/** Thumbs: up says that the agent is right, down asks which one is. */
import { h, put, quoted, thumb } from "./dom.js";
import { explain } from "./words.js";
import type { Agent, Decision } from "../types.js";

export interface FeedbackOptions {
  decision: Decision;
  /** Every agent there is, asked for when the list is opened. */
  agents: () => Promise<Agent[]>;
  /** Learns; what it throws is shown. */
  send: (agent: string) => Promise<void>;
  /** What was last taught of this very task, if the row is drawn anew after it. */
  taught?: string | undefined;
}

/** The feedback row of one decision. */
export function feedbackRow({ decision, agents, send, taught }: FeedbackOptions): HTMLElement {
  const said = h("p", { class: "said", part: "said", role: "status" });
  const up = h("button", { type: "button", part: "button up", "aria-pressed": "false", onclick: () => void teach(decision.agent) },
    thumb(), "Right");
  up.setAttribute("aria-label", `Right: ${decision.agent}`);
  const down = h("button", { type: "button", part: "button down", "aria-expanded": "false", onclick: () => void open() },
    thumb(true), "Wrong");
  down.setAttribute("aria-label", `Wrong: pick the right agent instead of ${decision.agent}`);
  const row = h("div", { class: "feedback", part: "feedback", role: "group", "aria-label": "Was this right?" }, up, down, said);
  let picker: HTMLFormElement | null = null;
  let learning = false;

  function thank(agent: string): void {
    up.setAttribute("aria-pressed", String(agent === decision.agent));
    put(said, agent === decision.agent ? `Learnt: this is for ${agent}.` : `Learnt: tasks like this go to ${agent}.`);
  }

  async function teach(agent: string): Promise<void> {
    if (learning) return; // the buttons stay enabled, so that the focus stays where it is
    learning = true;
    put(said, "Learning…");
    try {
      await send(agent);
      if (picker) down.focus({ preventScroll: true });
      shut();
      thank(agent);
    } catch (error) {
      put(said, explain(error));
    } finally {
      learning = false;
    }
  }

  async function open(): Promise<void> {
    if (picker) return shut();
    down.setAttribute("aria-expanded", "true");
    const select = h("select", { id: "choice", part: "choice" }, ...likely(decision));
    const go = h("button", { class: "main", part: "button teach" }, "Teach");
    picker = h(
      "form",
      {
        part: "picker",
        onsubmit: (event: SubmitEvent) => {
          event.preventDefault();
          if (select.value) void teach(select.value);
        },
        onkeydown: (event: KeyboardEvent) => {
          if (event.key !== "Escape") return;
          event.stopPropagation();
          shut();
          down.focus();
        },
      },
      h("label", { for: "choice" }, "Which agent is right?"),
      select,
      go,
    );
    row.append(picker);
    select.focus();
    try {
      const all = await agents();
      const shown = new Set([decision.agent, ...decision.alternatives.map((other) => other.agent)]);
      const rest = all.map((agent) => agent.name).filter((name) => !shown.has(name));
      if (rest.length) select.append(group("All others", rest.sort((a, b) => a.localeCompare(b))));
    } catch (error) {
      put(said, explain(error));
    }
  }

  function shut(): void {
    picker?.remove();
    picker = null;
    down.setAttribute("aria-expanded", "false");
  }

  if (taught) thank(taught);
  return row;
}

function likely(decision: Decision): HTMLOptGroupElement[] {
  return decision.alternatives.length ? [group("Next best", decision.alternatives.map((other) => other.agent))] : [];
}

function group(label: string, names: string[]): HTMLOptGroupElement {
  return h("optgroup", { label }, ...names.map((name) => quoted("option", { value: name }, name)));
}
