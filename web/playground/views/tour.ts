/** Half a minute in which a person teaches one task and sees the next one like it go there. */
import { h, put } from "../../src/element/dom.js";
import { explain, percent } from "../../src/element/words.js";
import type { App, Routed } from "../app.js";

const TASK = "send the invoice for March to the customer";
const NEXT = "send the April invoice to the customer";
const KEY = "ruvllm-tour";

/** Offers it once; whether it was taken or not is remembered. */
export function offerTour(app: App, slot: HTMLElement): void {
  if (seen()) return;
  const card = h("div", { class: "card tour", role: "region", "aria-label": "Tour", "aria-live": "polite" });
  const button = (words: string, act: () => unknown, main = false) =>
    h("button", { type: "button", class: main ? "go" : "", onclick: () => void Promise.resolve(act()).catch((error: unknown) => put(card, h("p", { class: "bad" }, explain(error)), button("Close", end))) }, words);
  const show = (step: string, words: string, ...buttons: HTMLElement[]) => {
    const within = card.contains(document.activeElement);
    put(card, step && h("b", { class: "number" }, step), h("p", {}, words), h("div", { class: "buttons" }, ...buttons));
    if (within || step) buttons[0]?.focus({ preventScroll: true });
  };
  const end = () => {
    remember();
    card.remove();
  };

  /** The page itself may route the same task once more meanwhile, as when RuvLTRA has come: then that is the answer. */
  async function routed(task: string): Promise<Routed | null> {
    const again = new Promise<Routed>((resolve) => app.on("routed", (one) => one?.task === task && resolve(one)));
    return (await app.route(task)) ?? (app.task === task ? again : null);
  }

  async function first(): Promise<void> {
    remember();
    const found = await routed(TASK);
    if (!found) return end();
    const { agent, confidence, alternatives } = found.decision;
    const choices = alternatives.slice(0, 3).map((other) => button(other.agent, () => teach(other.agent), true));
    show("1 of 3", `No agent here is made for “${TASK}”: ${agent} is the nearest, ${percent(confidence)} sure. Who should take such tasks? Teach it.`, ...choices, button("Skip", end));
  }

  async function teach(agent: string): Promise<void> {
    await app.teach(TASK, agent);
    show("2 of 3", `Learnt, in this browser: it goes to ${agent} now. The next one will not be the same; try “${NEXT}”.`, button("Route the next one", () => next(agent), true), button("Skip", end));
  }

  async function next(agent: string): Promise<void> {
    const went = (await routed(NEXT))?.decision;
    if (!went) return end();
    const words = went.agent === agent ? `It went to ${agent}, ${percent(went.confidence)} sure, after one lesson. That is all there is to it.` : `It went to ${went.agent} this time; a second lesson would settle it.`;
    const undo = async () => {
      const { feedback } = await (await app.open()).feedbackList(1);
      if (feedback[0]?.text === TASK) await app.undo(feedback[0].id, TASK);
      end();
    };
    show("3 of 3", words, button("Done", end, true), button("Undo the lesson", undo), h("a", { href: "#taught" }, "See what was learnt"));
  }

  app.on("ready", () => {
    if (card.isConnected || seen()) return;
    slot.append(card);
    show("", "New here? In half a minute you teach it one task, and see the next one like it go there.", button("Show me", first, true), button("Not now", end));
  });
}

function seen(): boolean {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return false; // storage is closed to this page
  }
}

function remember(): void {
  try {
    localStorage.setItem(KEY, "seen");
  } catch {
    // offered again next time
  }
}
