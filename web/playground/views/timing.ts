/** Where the microseconds went. */
import { h, put } from "../../src/element/dom.js";
import type { App, Routed } from "../app.js";
import { micros } from "../format.js";

const STAGES: [string, string][] = [
  ["read", "Mend slips, tell the language"],
  ["encode_static", "Look up the word table"],
  ["recall", "Compare with confirmed tasks"],
  ["lexical", "Match words"],
  ["score", "Score every agent"],
  ["encode_ruvltra", "Ask RuvLTRA"],
  ["score_ruvltra", "Score again"],
  ["decide", "Decide and explain"],
];

export function timingPanel(app: App): HTMLElement {
  const body = h("div");
  app.on("routed", (routed) => routed && put(body, ...content(routed)));
  return h("section", { class: "card timing", "aria-labelledby": "timing" }, h("h3", { id: "timing" }, "Time"), body);
}

function content({ decision, trip }: Routed): Node[] {
  const { total: given, ...rest } = decision.timings_us;
  const known = new Map(STAGES);
  const order = [...STAGES.map(([name]) => name), ...Object.keys(rest).filter((name) => !known.has(name))];
  const stages = order.flatMap((name, i) => {
    const value = rest[name];
    return value === undefined ? [] : [{ title: known.get(name) ?? name, value, hue: `stage-${i % 6}` }];
  });
  const sum = stages.reduce((all, { value }) => all + value, 0);
  const total = given ?? sum;
  const parts = stages.map(({ title, value, hue }) => {
    const part = h("i", { class: hue, title: `${title}: ${micros(value)}` });
    part.style.flexGrow = String(Math.max(value / Math.max(sum, 1e-9), 0.004));
    return part;
  });
  const rows = stages.map(({ title, value, hue }) =>
    h("div", {}, h("dt", {}, h("i", { class: hue }), title), h("dd", {}, micros(value))),
  );
  const lead = decision.cached
    ? `Remembered from before; the page had it back in ${micros(trip * 1000)}. When it was first decided:`
    : `${micros(total)} in the worker, ${micros(trip * 1000)} as the page sees it.`;
  return [
    h("p", { class: "note" }, lead),
    h("div", { class: "stack", "aria-hidden": "true" }, ...parts),
    h("dl", { class: "legend" }, ...rows),
  ];
}
