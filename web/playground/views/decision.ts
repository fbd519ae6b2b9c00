/** The decision as a line: the task, the agent it leads to, and the branches not taken. */
import { h, put, quoted, svg } from "../../src/element/dom.js";
import { feedbackRow } from "../../src/element/feedback.js";
import { band, encoderWords, isLesson, outside, percent, tierWords } from "../../src/element/words.js";
import type { App, Routed } from "../app.js";
import { copy } from "./copy.js";
import { drawRails } from "./rails.js";

export function decisionCard(app: App): HTMLElement {
  const card = h("article", { class: "card decision", "aria-label": "Decision" });
  const watcher = new ResizeObserver(() => drawRails(card));
  watcher.observe(card);
  app.on("routed", (routed) => {
    if (!routed) return;
    const within = card.contains(document.activeElement);
    put(card, ...content(app, routed));
    card.className = `card decision ${routed.decision.action}${outside(routed.decision) ? " outside" : ""}`;
    drawRails(card, true);
    if (within) card.querySelector<HTMLElement>(".feedback button")?.focus({ preventScroll: true });
  });
  app.on("busy", (busy) => card.setAttribute("aria-busy", String(busy)));
  return card;
}

function content(app: App, { task, decision }: Routed): Node[] {
  const agent = app.agent(decision.agent);
  const lead = outside(decision);
  const feedback = feedbackRow({
    decision,
    agents: () => Promise.resolve(app.agents),
    send: (name) => app.teach(task, name),
    taught: app.taught.find((lesson) => lesson.text === task)?.agent,
  });
  feedback.append(shareButton(task));
  return [
    svg("svg", { class: "rails", "aria-hidden": "true" }),
    h("div", { class: "from" }, h("span", { class: "stop start" }), quoted("p", {}, task)),
    h(
      "div",
      { class: "hit" },
      ring(decision.confidence),
      h(
        "div",
        {},
        lead && h("p", { class: "nobody" }, h("b", {}, lead.replace(/\. .*/, "")), h("span", {}, " The nearest:")),
        quoted("h2", { class: "agent" }, decision.agent),
        agent?.description ? quoted("p", { class: "about" }, firstSentence(agent.description)) : null,
      ),
    ),
    h("div", { class: "verdict" }, signal(), verdict(decision.action)),
    facts(decision),
    others(decision.alternatives),
    feedback,
  ];
}

/** Copies the page's address with the task in it; what follows # never leaves the browser. */
function shareButton(task: string): HTMLButtonElement {
  const button = h("button", { type: "button", class: "share" }, "Copy link");
  button.addEventListener("click", () => {
    const url = new URL(`#route/${encodeURIComponent(task)}`, location.href);
    void copy(button, url.href, "Not allowed here");
  });
  return button;
}

/** Confidence as a ring, with ticks where the bands begin. */
function ring(confidence: number): HTMLElement {
  const circle = { cx: 50, cy: 50, r: 41, fill: "none", pathLength: 100 };
  const tick = (at: number) =>
    svg("line", { class: "tick", x1: 50, y1: 1.5, x2: 50, y2: 17, transform: `rotate(${at * 360} 50 50)` });
  return h(
    "div",
    {
      class: "ring",
      role: "meter",
      "aria-label": "Confidence",
      "aria-valuemin": 0,
      "aria-valuemax": 1,
      "aria-valuenow": confidence,
      "aria-valuetext": percent(confidence),
      title: "The marks are at 70 % (confirm) and 90 % (use)",
    },
    svg(
      "svg",
      { viewBox: "0 0 100 100", "aria-hidden": "true" },
      svg("circle", { class: "plate", cx: 50, cy: 50, r: 48 }),
      svg("circle", { ...circle, class: "track" }),
      svg("circle", { ...circle, class: "arc", "stroke-dasharray": `${confidence * 100} 100`, transform: "rotate(-90 50 50)" }),
      tick(0.7),
      tick(0.9),
    ),
    h("span", {}, percent(confidence)),
  );
}

/** Three lamps, one lit: the colour is said in words beside them. */
function signal(): HTMLElement {
  const lamps = ["escalate", "confirm", "use"].map((name) => h("i", { class: `lamp ${name}` }));
  return h("span", { class: "signal", "aria-hidden": "true" }, ...lamps);
}

function verdict(action: Routed["decision"]["action"]): HTMLElement {
  const { title, detail } = band(action);
  return h("p", {}, h("b", {}, title), h("span", {}, detail));
}

function facts(decision: Routed["decision"]): HTMLElement {
  const rows: [string, string][] = [
    ["Model tier", `${decision.tier}, ${tierWords(decision.tier)}`],
    ["No agent fits", percent(decision.out_of_scope)],
    ["Decided by", (isLesson(decision) ? "a lesson" : encoderWords(decision.encoder)) + (decision.cached ? ", remembered" : "")],
  ];
  return h("dl", { class: "facts" }, ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function others(candidates: Routed["decision"]["alternatives"]): HTMLElement {
  return h(
    "ol",
    { class: "others", "aria-label": "Next best agents" },
    ...candidates.map(({ agent, confidence }) => {
      const fill = h("i");
      fill.style.width = `${confidence * 100}%`;
      return h(
        "li",
        { "data-confidence": confidence },
        h("span", { class: "stop" }),
        quoted("span", { class: "name" }, agent),
        h("span", { class: "bar", "aria-hidden": "true" }, fill),
        h("span", { class: "number" }, percent(confidence)),
      );
    }),
  );
}

/** A card in the list is a line or two, not a page. */
export function firstSentence(text: string): string {
  const sentence = /^.{20,240}?[.!?](?=\s|$)/s.exec(text)?.[0] ?? text;
  return sentence.length > 240 ? `${sentence.slice(0, 240).trimEnd()}…` : sentence;
}
