/** What a complex query falls into: its sub-queries, what each of them needs, and who takes it. */
import { h, put, quoted } from "../../src/element/dom.js";
import { Latest } from "../../src/element/latest.js";
import { band, explain, percent, tierWords } from "../../src/element/words.js";
import type { App } from "../app.js";
import { dag, type Dag } from "../charts/dag.js";
import { count } from "../format.js";
import { PART_TASKS } from "./prompts.js";
import type { View } from "./later.js";
import { HttpRouter } from "../../src/http.js";
import type { Plan, SubQuery } from "../../src/runtime.js";
import type { DeepAnswer, DeepEvent, Finding, Router } from "../../src/types.js";
import "../styles/workbench.css";

export function partsView(app: App, visible: () => boolean): View {
  const body = h("div", { "aria-live": "polite" });
  const samples = h(
    "ul",
    { class: "chips", "aria-label": "Sample complex queries" },
    ...PART_TASKS.map((task) => h("li", {}, h("button", { type: "button", onclick: () => void app.route(task) }, task))),
  );
  let shown = "";
  const latest = new Latest();
  const answering = new Latest();
  const answers = h("div", { "aria-live": "polite" });
  const ask = h("button", { type: "button", onclick: () => void answered() }, "Answer its parts");
  let server: Promise<Router | null> | undefined;
  let asked = ""; // whose parts are answered
  let graph: Dag | null = null;

  /** The server that this page comes from, if it is one of ruvllm's; else what this page remembers. */
  async function answerer(): Promise<Router> {
    server ??= own();
    return (await server) ?? app.open();
  }

  async function answered(): Promise<void> {
    const task = asked = app.task.trim();
    const list = h("ol", { class: "findings" });
    put(answers, h("p", { class: "note" }, "Answering …"), list);
    const onEvent = (event: DeepEvent): void => {
      if (event.type === "answered") list.append(h("li", {}, quoted("b", {}, event.finding.query), " ", said(event.finding)));
    };
    try {
      const answer = await answering.run(async () => (await answerer()).queryDeep(task, { onEvent }));
      if (answer) put(answers, list, h("h3", {}, "Together"), quoted("p", { class: "together" }, answer.text, 20_000), h("p", { class: "note" }, rested(answer)));
    } catch (error) {
      put(answers, h("p", { class: "empty" }, explain(error)));
    }
  }

  async function show(): Promise<void> {
    const task = app.task.trim();
    if (!visible() || (task && task === shown)) return graph?.draw();
    shown = "";
    if (task !== asked) { // else it was only routed once more, by the encoder that came later
      answering.drop();
      put(answers);
    }
    if (!task) {
      latest.drop();
      return put(body, h("p", { class: "empty" }, "Type a query above, or take a sample."));
    }
    try {
      const plan = await latest.run(async () => (await app.open()).decompose(task));
      if (!plan) return;
      shown = task;
      graph = drawn(plan);
      put(body, h("p", { class: "note" }, summary(plan)), graph.element, ask, answers);
      graph.draw();
    } catch (error) {
      put(body, h("p", { class: "empty" }, explain(error)));
    }
  }
  app.on("routed", () => {
    shown = "";
    void show();
  });
  const panel = h(
    "section",
    { class: "card parts" },
    h("p", { class: "note" }, "A query that asks several things is taken apart by rules. An arrow leads to a part from what it needs first; parts without an arrow between them can be answered at the same time."),
    samples,
    body,
  );
  return { panel, onShow: () => void show() };
}

async function own(): Promise<Router | null> {
  const { origin, href } = globalThis.location;
  const served = await fetch(href, { method: "HEAD" }).catch(() => undefined);
  if (!served?.headers.has("x-ruvllm-api")) return null;
  const router = new HttpRouter(origin);
  return router.stats().then(() => router, () => null); // it may want a key
}

function said({ text, missing }: Finding): HTMLElement {
  return text ? quoted("span", {}, text, 2_000) : h("span", { class: "note" }, `no answer: ${missing}`);
}

function rested({ findings, unanswered, sources, quality, calls }: DeepAnswer): string {
  const by = calls ? `by ${count(calls, "call")} of a language model` : "from what is remembered";
  return `${findings.length - unanswered.length} of ${count(findings.length, "part")} answered ${by}, from ${count(sources.length, "source")}; quality ${percent(quality)}.`;
}

function drawn(plan: Plan): Dag {
  const root = h("div", { class: "box root" }, h("span", { class: "role" }, plan.split ? "Query" : "Query, kept whole"), quoted("p", {}, plan.query));
  const boxes = plan.parts.map((part, i) => box(part, i, plan));
  return dag(root, boxes, plan.parts.map((part) => part.after));
}

function box({ text, after, decision }: SubQuery, at: number, plan: Plan): HTMLElement {
  const { agent, confidence, tier, action, out_of_scope } = decision;
  const fill = h("i");
  fill.style.width = `${confidence * 100}%`;
  const needs = after.map((place) => place + 1).join(" and ");
  return h(
    "article",
    { class: `box ${action}`, "aria-label": `Part ${at + 1}` },
    h("p", { class: "role" }, plan.split ? `Part ${at + 1}` : "In one go", needs && h("span", { class: "needs" }, `needs part ${needs}`)),
    quoted("p", { class: "asks" }, text),
    h("p", { class: "taker" }, h("span", { class: "dot", "aria-hidden": "true" }), quoted("b", {}, out_of_scope > confidence ? `perhaps ${agent}` : agent), h("span", { class: "number" }, percent(confidence))),
    h("span", { class: "bar", "aria-hidden": "true" }, fill),
    h("p", { class: "note" }, `${band(action).title} · ${tierWords(tier)}`),
  );
}

function summary({ split, parts, join }: Plan): string {
  if (!split) return "This asks one thing: it is best answered whole.";
  const agents = new Set(parts.map((part) => part.decision.agent)).size;
  const first = parts.filter((part) => !part.after.length).length;
  const sides = join === "compare" ? " The answers are set side by side." : "";
  return `${count(parts.length, "part")} for ${count(agents, "agent")}; ${first === parts.length ? "all" : first} can begin at once.${sides}`;
}
