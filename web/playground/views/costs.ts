/** Which LLM to pay for which prompt: stated backends, choices with their outcomes, and what that comes to. */
import { h, put, quoted } from "../../src/element/dom.js";
import { explain } from "../../src/element/words.js";
import type { App } from "../app.js";
import { count } from "../format.js";
import { backendForm, BUDGET, DEFAULTS } from "./backends.js";
import { costBoard } from "./costboard.js";
import type { View } from "./later.js";
import { dollars, seconds, share } from "./money.js";
import { type Practised, practise } from "./practice.js";
import type { BackendStats, Choice, Limits } from "../../src/runtime.js";
import "../styles/workbench.css";

const PRACTICE = 300; // prompts

export function costsView(app: App): View {
  const said = h("p", { class: "note", role: "status" });
  const chosen = h("div", { class: "chosen", "aria-live": "polite" });
  const prompt = h("textarea", { id: "paid-prompt", dir: "auto", rows: 2, placeholder: "e.g. explain why this query is slow" });
  const limits = limitFields();
  const board = costBoard();
  const form = backendForm(() => void told(apply));
  let practised: Practised[] = [];
  let running = false;
  let opening: Promise<void> | null = null;

  /** What goes wrong is said where the person looks. */
  const told = (work: () => Promise<void>) => work().catch((error: unknown) => put(said, explain(error)));
  const show = (stats: BackendStats) => board.show(stats, practised);

  async function apply(): Promise<void> {
    const { backends, options } = form.read();
    const profiles = backends.map(({ hard: _, ...profile }) => profile);
    show(await (await app.open()).setBackends(profiles, options));
    practised = [];
    put(chosen);
    put(said, `Choosing among ${count(profiles.length, "backend")} from now on; nothing is known of them but what you said.`);
  }

  /** What an earlier visit stated and learnt, or something to begin with. */
  async function start(): Promise<void> {
    const router = await app.open();
    let stats: BackendStats;
    try {
      stats = await router.backendStats();
    } catch (error) {
      if ((error as { field?: string }).field !== "backends") throw error;
      stats = await router.setBackends(DEFAULTS.map(({ hard: _, ...profile }) => profile), { budget: BUDGET });
    }
    form.fill(stats.profiles, stats.budget);
    show(stats);
  }

  /** The same once; what fails can be tried again. */
  function started(): Promise<void> {
    opening ??= start().catch((error: unknown) => {
      opening = null;
      throw error;
    });
    return opening;
  }

  async function ask(): Promise<void> {
    put(said);
    await started();
    const router = await app.open();
    const choice = await router.select(prompt.value.trim(), limits.read());
    const judge = (good: boolean) =>
      told(async () => {
        show(await router.recordOutcome(choice.choice_id, { success: good }));
        put(chosen, h("p", { class: "note" }, `Learnt: ${choice.backend} gave a ${good ? "good" : "bad"} answer to this. Prompts like it follow that.`));
        prompt.select();
        prompt.focus();
      });
    put(chosen, choiceCard(choice, judge));
    chosen.querySelector("button")?.focus({ preventScroll: true });
  }

  async function rehearse(): Promise<void> {
    if (running) return void (running = false);
    await started();
    const { backends } = form.read();
    running = true;
    put(go, "Stop");
    try {
      const seen = (rows: Practised[], stats: BackendStats) => {
        practised = practised.concat(rows);
        show(stats);
        put(go, `Stop; ${count(practised.length, "prompt")} so far`);
      };
      await practise(await app.open(), backends, limits.read(), PRACTICE, seen, () => !running);
    } finally {
      running = false;
      put(said, `${count(practised.length, "prompt")} practised.`);
      put(go, `Practise ${PRACTICE} more`);
    }
  }

  const go = h("button", { type: "button", onclick: () => void told(rehearse) }, `Practise ${PRACTICE} prompts`);
  const asking = h(
    "form",
    { class: "ask" },
    h("label", { for: "paid-prompt", class: "spoken" }, "Prompt"),
    prompt,
    h("div", { class: "buttons" }, h("button", { class: "go" }, "Choose a backend"), go),
    limits.element,
  );
  asking.addEventListener("submit", (event) => {
    event.preventDefault();
    void told(ask);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    asking.requestSubmit();
  });
  app.on("state", () => (opening = null));
  const panel = h(
    "section",
    { class: "bench-grid costs" },
    h(
      "div",
      { class: "card" },
      h("h3", {}, "Your models"),
      h("p", { class: "note" }, "State the LLMs that you pay for. Each prompt is given to one of them, and what came of it teaches the next choice: as much quality as the budget buys. No LLM is called from here; you say how its answer was."),
      form.element,
    ),
    h(
      "div",
      { class: "card" },
      h("h3", {}, "Ask"),
      asking,
      said,
      chosen,
      h("p", { class: "note" }, "Practice takes sample prompts, two easy ones to a hard one, and draws whether an answer is good by the percentages in the table. The choices and what is learnt of them are real."),
    ),
    board.element,
  );
  return { panel, onShow: () => void told(started) };
}

function choiceCard({ backend, quality, cost, latency, alternatives }: Choice, judge: (good: boolean) => unknown): HTMLElement {
  const facts: [string, string][] = [["Good answer", share(quality)], ["Price", dollars(cost)], ["Time", seconds(latency)]];
  return h(
    "article",
    { class: "verdict-card", "aria-label": "Chosen backend" },
    h("p", { class: "role" }, "Ask"),
    quoted("h3", { class: "agent" }, backend),
    h("dl", { class: "facts inline" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    alternatives.length ? h("p", { class: "note" }, `Also within the limits: ${alternatives.join(", ")}.`) : null,
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", class: "yes", onclick: () => void judge(true) }, "Good answer"),
      h("button", { type: "button", class: "no", onclick: () => void judge(false) }, "Bad answer"),
    ),
  );
}

const LIMITS: readonly [key: keyof Limits, title: string, hint: string, scale: number][] = [
  ["max_cost", "Most dollars", "per 1,000 answers", 1_000],
  ["max_latency", "Most time", "ms", 1],
  ["min_quality", "Least quality", "% expected", 100],
];

function limitFields(): { element: HTMLElement; read(): Limits } {
  const fields = LIMITS.map(([key, title, hint]) => {
    const input = h("input", { type: "number", min: 0, step: "any", inputmode: "decimal", id: `limit-${key}` });
    return { input, label: h("label", { class: "field", for: input.id }, title, input, h("small", {}, hint)) };
  });
  const element = h("details", { class: "limits" }, h("summary", {}, "Limits that no choice may break"), h("div", { class: "fields" }, ...fields.map(({ label }) => label)));
  const read = () => {
    const out: Limits = {};
    LIMITS.forEach(([key, , , scale], i) => {
      const value = fields[i]?.input.value.trim();
      if (value) out[key] = Number(value) / scale;
    });
    return out;
  };
  return { element, read };
}
