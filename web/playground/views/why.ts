/** Why: which words, which examples, which scores. */
import { h, put, quoted } from "../../src/element/dom.js";
import type { Child } from "../../src/element/dom.js";
import { isLesson, shortened } from "../../src/element/words.js";
import type { App, Routed } from "../app.js";
import { cosine } from "../format.js";

const SCORES: Record<string, [string, string]> = {
  adapted: ["Learnt fit", "cosine of task and card after training on such pairs"],
  card: ["Description", "cosine of the task and the agent's description"],
  name: ["Name", "cosine of the task and the agent's name"],
  bm25: ["Shared words", "BM25, rare words count more"],
  memory: ["Lesson", "cosine of the task and the lesson that decided"],
  head: ["Examples and feedback", "what this agent's own tasks add"],
};

export function whyPanel(app: App): HTMLElement {
  const body = h("div");
  app.on("routed", (routed) => routed && put(body, ...content(routed)));
  return h("section", { class: "card why", "aria-labelledby": "why" }, h("h3", { id: "why" }, "Why"), body);
}

function content({ task, decision }: Routed): Node[] {
  const { agent, evidence } = decision;
  const lesson = isLesson(decision);
  const words = evidence.keywords.length
    ? `Marked: words that ${agent} is known by.`
    : `No word of the task is one that ${agent} is known by; the meaning decided.`;
  return [
    h("p", { class: "quote", dir: "auto" }, ...marks(shortened(task), evidence.keywords)),
    h("p", { class: "note" }, lesson ? `A lesson decided: you taught that this, or a task that means the same, is for ${agent}.` : words),
    ...nearest(agent, evidence.examples, lesson ? "What you taught" : "Nearest examples"),
    h("h4", {}, "Scores"),
    h("dl", { class: "scores" }, ...Object.entries(evidence.scores).map(([name, value]) => score(name, value))),
  ];
}

function nearest(agent: string, examples: [string, number][], title: string): Node[] {
  if (!examples.length) return [h("p", { class: "note" }, `${agent} has no examples of its own.`)];
  const rows = examples.map(([text, value]) => {
    const fill = h("i");
    fill.style.width = `${Math.max(0, value) * 100}%`;
    return h(
      "li",
      {},
      quoted("span", { class: "text" }, text),
      h("span", { class: "bar", "aria-hidden": "true" }, fill),
      h("span", { class: "number", title: "cosine" }, cosine(value)),
    );
  });
  return [h("h4", {}, title), h("ol", { class: "nearest" }, ...rows)];
}

function score(name: string, value: number): HTMLElement {
  const [title, detail] = SCORES[name] ?? [name, ""];
  return h("div", {}, h("dt", {}, title, h("small", {}, detail)), h("dd", {}, cosine(value)));
}

/** The task with its keywords in <mark>. */
function marks(task: string, keywords: string[]): Child[] {
  const lower = task.toLowerCase();
  const spans: [number, number][] = [];
  if (lower.length === task.length) {
    for (const keyword of keywords.map((word) => word.toLowerCase()).filter(Boolean)) {
      for (let at = lower.indexOf(keyword); at >= 0; at = lower.indexOf(keyword, at + keyword.length)) {
        const inside = at > 0 && /[\p{L}\p{N}]/u.test(lower[at - 1] ?? "");
        if (!inside) spans.push([at, at + keyword.length]);
      }
    }
  }
  spans.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  const out: Child[] = [];
  let end = 0;
  for (const [from, to] of spans) {
    if (from < end) continue;
    out.push(task.slice(end, from), h("mark", {}, task.slice(from, to)));
    end = to;
  }
  return [...out, task.slice(end)];
}
