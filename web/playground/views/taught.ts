/** What feedback has taught: how far confidences hold, each lesson with its undo, and the patterns of what worked. */
import { h, put, quoted } from "../../src/element/dom.js";
import { explain, shortened } from "../../src/element/words.js";
import type { App } from "../app.js";
import { reliabilityDiagram } from "../charts/reliability.js";
import { count } from "../format.js";
import type { View } from "./later.js";
import { share } from "./money.js";
import type { KeptFeedback, Pattern, Reliability } from "../../src/runtime.js";
import "../styles/workbench.css";

const LESSONS = 30;

export function taughtView(app: App, visible: () => boolean): View {
  const said = h("p", { class: "note", role: "status" });
  const lessons = h("div", {});
  const trust = h("div", {});
  const patterns = h("div", {});
  const told = (work: () => Promise<void>) => work().catch((error: unknown) => put(said, explain(error)));

  async function refresh(): Promise<void> {
    if (!visible()) return;
    const router = await app.open();
    const { feedback, total } = await router.feedbackList(LESSONS);
    put(lessons, lessonList(feedback, total, (one) => void told(() => undo(one))));
    put(trust, ...reliabilityRows(await router.reliability()));
    put(patterns, patternList(await router.patterns()));
  }

  async function undo({ id, text, agent }: KeptFeedback): Promise<void> {
    put(said, "Unlearning…");
    await app.undo(id, text);
    put(said, `Taken back: “${shortened(text, 80)}” for ${agent}.`);
    await refresh();
  }

  async function distil(): Promise<void> {
    put(patterns, patternList(await (await app.open()).learnPatterns()));
    put(said, "Looked through everything that was rated.");
  }

  for (const type of ["taught", "state"] as const) app.on(type, () => void told(refresh));
  const panel = h(
    "section",
    { class: "bench-grid taughtgrid" },
    h("div", { class: "card" }, h("h2", {}, "Lessons"), said, lessons),
    h("div", { class: "card" }, h("h2", {}, "Can its confidence be trusted?"), trust),
    h(
      "div",
      { class: "card wide-card" },
      h("h2", {}, "Patterns"),
      h("p", { class: "note" }, "What has worked for which kind of task, distilled of answers that were rated under Remember."),
      patterns,
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => void told(distil) }, "Distil now")),
    ),
  );
  return { panel, onShow: () => void told(refresh) };
}

function lessonList(feedback: readonly KeptFeedback[], total: number, undo: (one: KeptFeedback) => void): HTMLElement {
  if (!feedback.length) return h("p", { class: "empty" }, "Nothing yet. A thumb on a decision is a lesson, and so is a rating of an answer.");
  const rows = feedback.map((one) =>
    h(
      "li",
      {},
      quoted("span", { class: "text" }, one.text),
      quoted("b", {}, one.right ? one.agent : `not ${one.agent}`),
      h("button", { type: "button", "aria-label": `Undo: ${shortened(one.text, 80)}`, onclick: () => undo(one) }, "Undo"),
    ),
  );
  const more = total > feedback.length ? h("p", { class: "note" }, `The latest ${feedback.length} of ${total}.`) : null;
  return h("div", {}, h("ul", { class: "lessons" }, ...rows), more);
}

function reliabilityRows(told: Reliability): HTMLElement[] {
  if (!told.decisions) return [h("p", { class: "empty" }, "Each thumb says whether a decision was right, and how sure it had been. The first one draws a point here.")];
  const few = told.decisions < 30 ? " So few say little yet." : "";
  const words = `${count(told.decisions, "decision")}, ${told.right} right; confidence and truth are ${share(told.ece ?? 0)} apart on average.${few}`;
  return [h("p", { class: "note" }, words), reliabilityDiagram(told), h("p", { class: "note" }, "On the dashed line, 70\u202f% confident means right in 7 of 10 cases. Below it is too sure, above it too modest.")];
}

function patternList(patterns: readonly Pattern[]): HTMLElement {
  if (!patterns.length) return h("p", { class: "empty" }, "None yet: rate some answers, then distil.");
  const row = ({ pattern_type, route, cluster_size, avg_quality, access_count }: Pattern) => {
    const values = [pattern_type, cluster_size.toLocaleString("en"), share(avg_quality), access_count.toLocaleString("en")];
    return h("tr", {}, quoted("th", { scope: "row" }, route || "–"), ...values.map((value) => h("td", {}, value)));
  };
  return h(
    "div",
    { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Patterns" },
    h(
      "table",
      { class: "sheet" },
      h("thead", {}, h("tr", {}, ...["Agent", "Kind", "Tasks", "Quality", "Used"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, ...patterns.map(row)),
    ),
  );
}
