/** What the element shows of one decision. */
import { h, quoted } from "./dom.js";
import type { Child } from "./dom.js";
import { band, isLesson, outside, percent, tierWords } from "./words.js";
import type { Decision } from "../types.js";

/** The part that is read out: agent, confidence and its band, tier. */
export function summary(decision: Decision): HTMLElement {
  const { title, detail } = band(decision.action);
  const lead = outside(decision);
  return h(
    "div",
    { class: decision.action },
    h(
      "div",
      { class: "head" },
      lead && h("p", { class: "none", part: "outside" }, lead),
      quoted("p", { class: "agent", part: "agent" }, decision.agent),
      h("span", { class: "figure", part: "confidence-value" }, percent(decision.confidence)),
    ),
    bar(decision.confidence, "confidence", "Confidence"),
    h("p", { class: "words", part: "action" }, h("b", {}, title), ` – ${detail}`),
    isLesson(decision) && h("p", { class: "tier", part: "lesson" }, "By a lesson that it was taught."),
    h("p", { class: "tier", part: "tier" }, `Tier ${decision.tier}: ${tierWords(decision.tier)}`),
  );
}

/** The next best, each with its bar; nothing when there is none. */
export function alternatives(decision: Decision): Child {
  if (!decision.alternatives.length) return null;
  return h(
    "ul",
    { class: "others", part: "alternatives", "aria-label": "Next best agents" },
    ...decision.alternatives.map(({ agent, confidence }) =>
      h(
        "li",
        { part: "alternative" },
        quoted("span", {}, agent),
        bar(confidence, "alternative-bar", `Confidence in ${agent}`),
        h("span", { "aria-hidden": "true" }, percent(confidence)),
      ),
    ),
  );
}

function bar(value: number, part: string, label: string): HTMLElement {
  const fill = h("i");
  fill.style.width = `${Math.max(0, Math.min(1, value)) * 100}%`;
  const numbers = { "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": value, "aria-valuetext": percent(value) };
  return h("div", { class: "bar", part, role: "meter", "aria-label": label, ...numbers }, fill);
}
